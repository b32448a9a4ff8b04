//! What a decision was made on: a document that outlives it.

use hab_oci::Digest;
use serde::{Deserialize, Serialize};

/// The kind of proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A file's signature, detached or clearsigned; for a Debian archive's index, and the chain of digests below it.
    ArchiveSignature,
    /// An annotated git tag's signature, and the tree below it.
    Tag,
    /// A history of signed commits.
    CommitChain,
    /// A signed list of hashes.
    SignedHashes,
    /// Independent builders' signed lists of hashes.
    Attestations,
    /// A digest that the lock or a policy pins.
    Digest,
    /// Nothing: a person asked for unsigned source by name.
    Unsigned,
}

/// Which bytes a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What it is.
    pub name: String,
    /// Which bytes.
    pub digest: Digest,
    /// How many.
    pub size: u64,
}

impl Document {
    /// The document `name` with these bytes.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), digest: Digest::of(bytes), size: bytes.len() as u64 }
    }
}

/// Which policy decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRef {
    /// Its name.
    pub name: String,
    /// The digest of its text.
    pub digest: Digest,
}

/// What a signature was found to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Valid, by a pinned key.
    Good,
    /// Valid when it was made, by its own word, but its key or pin has expired since.
    ExpiredSince(String),
    /// It says that a pinned key made it, but that key's certificate is not here.
    CertificateMissing,
    /// By a key that the policy does not pin.
    UnknownKey,
    /// By a key that no certificate here has, while certificates of pinned keys are missing: it may be a subkey of one.
    Unidentified(String),
    /// Its key is revoked.
    Revoked(String),
    /// By a pinned key that was expired, not yet pinned or not bound when it was made.
    BadKey(String),
    /// Its hash or key algorithm is too weak.
    Weak(String),
    /// It does not fit the bytes, or does not read.
    Bad(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::CertificateMissing => f.write_str("pinned, certificate missing"),
            Self::UnknownKey => f.write_str("not a pinned key"),
            Self::Unidentified(why) => write!(f, "a key that no certificate here has; {why}"),
            Self::ExpiredSince(why) => write!(f, "valid when made, expired since: {why}"),
            Self::Revoked(why) => write!(f, "revoked: {why}"),
            Self::Weak(why) => write!(f, "too weak: {why}"),
            Self::BadKey(why) | Self::Bad(why) => f.write_str(why),
        }
    }
}

/// At which time a signature was judged, and why then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Now: when it was first seen is not recorded.
    Now,
    /// When this farm first saw it.
    FirstSeen,
}

/// One signature that the bytes carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureSeen {
    /// The primary key's fingerprint where the certificate is known, otherwise what the signature says of its issuer.
    pub key: String,
    /// The pinned name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// When the signature says it was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub made: Option<String>,
    /// Its algorithms: key and hash.
    pub algorithm: String,
    /// The signature's own bytes.
    pub digest: Digest,
    /// Against which time the key was held, RFC 3339.
    pub judged: String,
    /// Why that time.
    pub basis: Basis,
    /// What it was found to be.
    pub verdict: Verdict,
    /// Why it does not count for what was asked, although it is good: its key is outside the group that may sign this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub aside: Option<String>,
}

/// Why a source was accepted, or what was seen when it was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The kind of proof.
    pub kind: EvidenceKind,
    /// What was asked for.
    pub asked: String,
    /// Which policy decided; a digest in a lock needs none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<PolicyRef>,
    /// Which of its requirements are met.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub met: Vec<String>,
    /// The bytes, from the signed document down to the source.
    pub documents: Vec<Document>,
    /// Every signature that was seen.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub signatures: Vec<SignatureSeen>,
}
