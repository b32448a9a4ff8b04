//! What a decision was made on: a document that outlives it.

use hab_oci::Digest;
use serde::{Deserialize, Serialize};

/// The kind of proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A Debian archive's signed index, and the chain of digests below it.
    ArchiveSignature,
    /// An annotated git tag's signature, and the tree below it.
    Tag,
    /// A digest that the lock pins.
    Digest,
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
    /// By a key that the policy does not pin, or whose certificate is not here.
    UnknownKey,
    /// By a pinned key that was expired, revoked or not bound at the time.
    BadKey(String),
    /// It does not fit the bytes, or is too weak.
    Bad(String),
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
    /// Its hash algorithm.
    pub hash: String,
    /// What it was found to be.
    pub verdict: Verdict,
}

/// Why a source was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The kind of proof.
    pub kind: EvidenceKind,
    /// What was asked for.
    pub asked: String,
    /// Which policy decided; a digest in a lock needs none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<PolicyRef>,
    /// The bytes, from the signed document down to the source.
    pub documents: Vec<Document>,
    /// Every signature that was seen.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub signatures: Vec<SignatureSeen>,
}
