//! A project's policy: `trust/<project>/policy.toml`.
//!
//! A policy pins keys, names requirements for them, and says which requirements a source must meet. `file.rs` parses
//! the file; [`Accept`] evaluates the expression of requirements.

mod accept;
mod file;
mod pin;
mod places;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use hab_oci::Digest;

pub use accept::Accept;
pub use pin::{KeyId, Pin};
pub use places::CertificateFolder;
pub(crate) use places::is_address;

use crate::PolicyRef;

/// The largest policy that is read, in bytes.
const LIMIT: usize = 1 << 20;

/// Which keys must sign, how many of them, and what.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    needs_keys: Option<String>,
    pins: Vec<Pin>,
    requirements: BTreeMap<String, Requirement>,
    accept: Accept,
    exceptions: Vec<WeakHash>,
    weak: Vec<WeakCertificate>,
    folders: Vec<CertificateFolder>,
    text: String,
}

/// One demand of a policy, which bytes can meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Its name in the policy.
    pub name: String,
    /// What it demands.
    pub rule: Rule,
}

/// What a requirement demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// An annotated tag, signed by enough keys.
    Tag(Quorum),
    /// A history of signed commits back to a trusted one.
    CommitChain(ChainRule),
    /// A list of hashes, signed by enough keys; for builders' attestations, by enough keys for each file.
    SignedHashes(Quorum),
    /// A file (an archive, an index), signed by enough keys, detached or clearsigned.
    ArchiveSignature(Quorum),
    /// Files with exactly these digests.
    Digest(BTreeMap<String, Digest>),
    /// Nothing; the text says why the project's sources cannot be verified. Never met, unless a person explicitly asks
    /// for unsigned source.
    Unsigned(String),
}

/// The kinds of rules, as policies and messages write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleKind {
    /// [`Rule::Tag`].
    Tag,
    /// [`Rule::CommitChain`].
    CommitChain,
    /// [`Rule::SignedHashes`].
    SignedHashes,
    /// [`Rule::ArchiveSignature`].
    ArchiveSignature,
    /// [`Rule::Digest`].
    Digest,
    /// [`Rule::Unsigned`].
    Unsigned,
}

impl std::fmt::Display for RuleKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tag => "tag",
            Self::CommitChain => "commit-chain",
            Self::SignedHashes => "signed-hashes",
            Self::ArchiveSignature => "archive-signature",
            Self::Digest => "digest",
            Self::Unsigned => "unsigned",
        })
    }
}

impl Rule {
    /// The kind of the rule.
    pub fn kind(&self) -> RuleKind {
        match self {
            Self::Tag(_) => RuleKind::Tag,
            Self::CommitChain(_) => RuleKind::CommitChain,
            Self::SignedHashes(_) => RuleKind::SignedHashes,
            Self::ArchiveSignature(_) => RuleKind::ArchiveSignature,
            Self::Digest(_) => RuleKind::Digest,
            Self::Unsigned(_) => RuleKind::Unsigned,
        }
    }

    /// How many of which keys must sign, if the rule is about signatures.
    pub fn quorum(&self) -> Option<&Quorum> {
        match self {
            Self::Tag(quorum) | Self::SignedHashes(quorum) | Self::ArchiveSignature(quorum) => Some(quorum),
            Self::CommitChain(chain) => Some(&chain.signers),
            Self::Digest(_) | Self::Unsigned(_) => None,
        }
    }
}

/// How many distinct keys of which group must sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The number of keys, at least 1.
    pub threshold: usize,
    /// The group whose keys count; without one, all pinned keys count.
    pub group: Option<String>,
    /// Whether a key counts that expired after it signed.
    pub expired_since: bool,
}

/// The rules for a history of signed commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRule {
    /// Who may sign a commit; one signature for each commit is enough.
    pub signers: Quorum,
    /// The trusted commit at which the history begins; it is not judged itself.
    pub root: String,
    /// Whether every commit's message must contain the SHA-512 of its tree.
    pub tree_sha512: bool,
    /// Commits that may break a rule.
    pub allow: Vec<Allowance>,
}

/// A commit that may break one rule.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Its object id.
    pub commit: String,
    /// The rule that it may break.
    pub rule: ChainCheck,
    /// The reason.
    pub reason: String,
    /// The day since which it is allowed, such as `2026-01-31`.
    pub date: String,
}

/// A check that every commit of a chain must pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainCheck {
    /// It has a signature by a key that may sign it.
    Signature,
    /// Its message has the right `Tree-SHA512` line.
    TreeSha512,
    /// The tree of a merge is the result of merging its parents.
    Merge,
}

/// A weak hash algorithm that is accepted from one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeakHash {
    /// The certificate whose signatures may use it.
    pub key: KeyId,
    /// The algorithm.
    pub hash: sequoia_openpgp::types::HashAlgorithm,
    /// The end of the exception.
    pub until: jiff::Timestamp,
    /// The reason.
    pub reason: String,
}

/// A certificate that is accepted although all its self-signatures use SHA-1. Then only its primary key counts: the pin
/// names that key, but a forged SHA-1 signature could attach a subkey to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeakCertificate {
    /// The certificate.
    pub key: KeyId,
    /// The end of the exception.
    pub until: jiff::Timestamp,
    /// The reason.
    pub reason: String,
}

impl Policy {
    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why it pins no key yet, and so refuses everything.
    pub fn needs_keys(&self) -> Option<&str> {
        self.needs_keys.as_deref()
    }

    /// The pinned keys.
    pub fn pins(&self) -> &[Pin] {
        &self.pins
    }

    /// The pin of a key, by its primary fingerprint.
    pub fn pin(&self, key: &KeyId) -> Option<&Pin> {
        self.pins.iter().find(|pin| pin.id == *key)
    }

    /// The requirements, by name.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.values()
    }

    /// The requirement of a kind; a policy has at most one of each.
    pub fn requirement(&self, kind: RuleKind) -> Option<&Requirement> {
        self.requirements.values().find(|r| r.rule.kind() == kind)
    }

    /// The requirements that a source must meet.
    pub fn accept(&self) -> &Accept {
        &self.accept
    }

    /// The weak hashes that are accepted from `key` at `now`.
    pub fn exceptions<'a>(
        &'a self,
        key: &'a KeyId,
        now: jiff::Timestamp,
    ) -> impl Iterator<Item = &'a WeakHash> {
        self.exceptions.iter().filter(move |e| e.key == *key && now < e.until)
    }

    /// The exception for `key`'s certificate at `now`, if the policy makes one.
    pub fn weak_certificate(&self, key: &KeyId, now: jiff::Timestamp) -> Option<&WeakCertificate> {
        self.weak.iter().find(|e| e.key == *key && now < e.until)
    }

    /// Folders of mirrored projects with certificates of its keys.
    pub fn certificate_folders(&self) -> &[CertificateFolder] {
        &self.folders
    }

    /// What a person can do if certificates of its keys are missing.
    pub fn how_to_find(&self) -> String {
        let name = &self.name;
        let mut ways = vec![format!("`hab-build keys refresh {name}` looks for them again")];
        for folder in &self.folders {
            let CertificateFolder { project, folder, .. } = folder;
            ways.push(format!("`hab-build mirror sync {project}` brings its folder {folder}"));
        }
        format!("{}; `hab-build keys import FILE` takes one from a file", ways.join(", "))
    }

    /// The text that the policy was parsed from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The policy's name and digest, for evidence.
    pub fn reference(&self) -> PolicyRef {
        PolicyRef { name: self.name.clone(), digest: Digest::of(self.text.as_bytes()) }
    }
}

/// Why a text is not a valid policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is not TOML, or has other fields than a policy; the source gives line and column.
    #[error("cannot parse policy {name}")]
    Syntax {
        /// The folder's name.
        name: String,
        /// The parser's error.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// It breaks a rule for policies.
    #[error("policy {name}: {detail}")]
    Invalid {
        /// The policy's name.
        name: String,
        /// What is wrong.
        detail: String,
    },
}
