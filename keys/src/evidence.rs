//! The evidence that a decision rests on: a document that outlives the decision's run.

use hab_oci::Digest;
use serde::{Deserialize, Serialize};

/// The kind of proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A file's signature, detached or clearsigned; for an index of a Debian archive, also the chain of digests below
    /// it.
    ArchiveSignature,
    /// An annotated git tag's signature, and the tree below it.
    Tag,
    /// A history of signed commits.
    CommitChain,
    /// A signed list of hashes.
    SignedHashes,
    /// Independent builders' signed lists of hashes.
    Attestations,
    /// A digest that a lock or a policy pins.
    Digest,
    /// No proof: a person explicitly asked for unsigned source.
    Unsigned,
}

/// Bytes that a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What the bytes are.
    pub name: String,
    /// Their digest.
    pub digest: Digest,
    /// Their size in bytes.
    pub size: u64,
}

impl Document {
    /// The document `name` with these bytes.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), digest: Digest::of(bytes), size: bytes.len() as u64 }
    }
}

/// The policy that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRef {
    /// Its name.
    pub name: String,
    /// The digest of its text.
    pub digest: Digest,
}

/// The verdict on one signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Valid, by a pinned key.
    Good,
    /// Valid at the time that it claims to be made, but its key or pin has expired since.
    ExpiredSince(String),
    /// It claims to be by a pinned key, but that key's certificate is not here.
    CertificateMissing,
    /// By a key that the policy does not pin.
    UnknownKey,
    /// By a key that no certificate here has, while certificates of pinned keys are missing: it may be a subkey of one
    /// of those.
    Unidentified(String),
    /// Its key is revoked.
    Revoked(String),
    /// By a pinned key that was expired, not yet pinned or not bound when the signature was made.
    BadKey(String),
    /// Its hash or key algorithm is too weak.
    Weak(String),
    /// It does not match the bytes, or cannot be parsed.
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

/// How the time was chosen at which a signature was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The present: there is no record of when the signature was first seen.
    Now,
    /// The time at which this farm first saw the signature.
    FirstSeen,
}

/// One signature over the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureSeen {
    /// The primary key's fingerprint if the certificate is known; otherwise the issuer that the signature claims.
    pub key: String,
    /// The name in the pin.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The time at which the signature claims to be made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub made: Option<String>,
    /// Its key and hash algorithms.
    pub algorithm: String,
    /// The digest of the signature's own bytes.
    pub digest: Digest,
    /// The time for which the key was judged, RFC 3339.
    pub judged: String,
    /// How that time was chosen.
    pub basis: Basis,
    /// The verdict.
    pub verdict: Verdict,
    /// Why a good signature does not count for this question: its key is outside the group that may sign this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub aside: Option<String>,
}

/// Why a source was accepted, or the findings if it was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The kind of proof.
    pub kind: EvidenceKind,
    /// The question.
    pub asked: String,
    /// The policy that decided; `None` for a digest in a lock, which needs no policy.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<PolicyRef>,
    /// The requirements that are met.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub met: Vec<String>,
    /// The documents, from the signed one down to the source.
    pub documents: Vec<Document>,
    /// Every signature that was seen.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub signatures: Vec<SignatureSeen>,
}
