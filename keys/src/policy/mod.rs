//! What a project demands: `trust/<project>/policy.toml`.
//!
//! A policy pins keys, names requirements over them, and says which of the requirements a source must meet. Reading the
//! file is in `file.rs`; what the expression of requirements means is in [`Accept`].

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

/// Which keys, how many of them, over what.
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

/// One demand that bytes can meet.
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
    /// A list of hashes, signed by enough keys; for builders' attestations, enough for each artifact.
    SignedHashes(Quorum),
    /// A file (an archive, an index), signed by enough keys, detached or clearsigned.
    ArchiveSignature(Quorum),
    /// Exactly these bytes.
    Digest(BTreeMap<String, Digest>),
    /// Nothing: why the project's sources cannot be verified. Never met unless a person asks for it by name.
    Unsigned(String),
}

/// The kinds of rules, as files and people write them.
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
    /// Its kind.
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

    /// How many of which keys, for a rule about signatures.
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
    /// How many, at least 1.
    pub threshold: usize,
    /// Only keys of this group count; all pinned keys without one.
    pub group: Option<String>,
    /// Whether a key that expired since it signed counts.
    pub expired_since: bool,
}

/// A history of signed commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRule {
    /// Who may sign a commit; one signature each is enough.
    pub signers: Quorum,
    /// The trusted commit at which the history begins; it is not judged itself.
    pub root: String,
    /// Whether every commit's message must hold the SHA-512 of its tree.
    pub tree_sha512: bool,
    /// Commits that need not follow a rule.
    pub allow: Vec<Allowance>,
}

/// A commit that need not follow one rule.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Its object id.
    pub commit: String,
    /// Which rule.
    pub rule: ChainCheck,
    /// Why.
    pub reason: String,
    /// Since when it is allowed, `2026-01-31`.
    pub date: String,
}

/// What is checked of every commit of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainCheck {
    /// A signature by a key that may.
    Signature,
    /// The `Tree-SHA512` line.
    TreeSha512,
    /// A merge has the tree that merging its parents gives.
    Merge,
}

/// A hash algorithm that is accepted from one certificate although it is weak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeakHash {
    /// Whose signatures.
    pub key: KeyId,
    /// The algorithm.
    pub hash: sequoia_openpgp::types::HashAlgorithm,
    /// Until when.
    pub until: jiff::Timestamp,
    /// Why.
    pub reason: String,
}

/// A certificate that is accepted although all that it says of itself is signed with SHA-1. Only its primary key
/// counts then: that key is the one that is pinned, and whether a subkey belongs to it is what SHA-1 could be made to
/// lie about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeakCertificate {
    /// Whose.
    pub key: KeyId,
    /// Until when.
    pub until: jiff::Timestamp,
    /// Why.
    pub reason: String,
}

impl Policy {
    /// Its name.
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

    /// Its requirements, by name.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.values()
    }

    /// The requirement of a kind; a policy has one of each at most.
    pub fn requirement(&self, kind: RuleKind) -> Option<&Requirement> {
        self.requirements.values().find(|r| r.rule.kind() == kind)
    }

    /// What a source must meet.
    pub fn accept(&self) -> &Accept {
        &self.accept
    }

    /// The hash that is accepted from `key` at `now` although it is weak.
    pub fn exceptions<'a>(
        &'a self,
        key: &'a KeyId,
        now: jiff::Timestamp,
    ) -> impl Iterator<Item = &'a WeakHash> {
        self.exceptions.iter().filter(move |e| e.key == *key && now < e.until)
    }

    /// The exception for `key`'s certificate at `now`, where the policy makes one.
    pub fn weak_certificate(&self, key: &KeyId, now: jiff::Timestamp) -> Option<&WeakCertificate> {
        self.weak.iter().find(|e| e.key == *key && now < e.until)
    }

    /// Folders of mirrored projects in which certificates of its keys lie.
    pub fn certificate_folders(&self) -> &[CertificateFolder] {
        &self.folders
    }

    /// What a person can do where certificates of its keys are missing.
    pub fn how_to_find(&self) -> String {
        let name = &self.name;
        let mut ways = vec![format!("`hab-build keys refresh {name}` looks for them again")];
        for folder in &self.folders {
            let CertificateFolder { project, folder, .. } = folder;
            ways.push(format!("`hab-build mirror sync {project}` brings its folder {folder}"));
        }
        format!("{}; `hab-build keys import FILE` takes one from a file", ways.join(", "))
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its name and digest, for evidence.
    pub fn reference(&self) -> PolicyRef {
        PolicyRef { name: self.name.clone(), digest: Digest::of(self.text.as_bytes()) }
    }
}

/// Why a text is not a policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, or not a policy's fields; the source says line and column.
    #[error("policy {name} does not read")]
    Syntax {
        /// The folder's name.
        name: String,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Something that must not be.
    #[error("policy {name}: {detail}")]
    Invalid {
        /// The policy's name.
        name: String,
        /// What is wrong.
        detail: String,
    },
}
