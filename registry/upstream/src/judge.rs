//! The interface that judges signatures. This crate knows no keys, so the program gives it a judge.

use std::fmt;

use hab_oci::Digest;

/// The media type of a document that cosign signed before version 3.
pub(crate) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The media type of a sigstore bundle, which cosign writes since version 3.
pub(crate) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The annotation of a layer that holds the signature over its bytes.
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// A signature as it came: **unverified**.
#[derive(Clone, Debug)]
pub enum Signature {
    /// A document in the simple signing format.
    Document {
        /// The signed bytes.
        payload: Vec<u8>,
        /// The signature over them, base64.
        signature: String,
    },
    /// A sigstore bundle, JSON. It may hold any statement about an image, a signature among others.
    Bundle(Vec<u8>),
}

impl Signature {
    /// The bytes of it that are stored.
    pub(crate) fn payload(&self) -> &[u8] {
        match self {
            Self::Document { payload, .. } => payload,
            Self::Bundle(bytes) => bytes,
        }
    }
}

/// Judges signatures by the keys that the operator trusts.
pub trait ImageJudge: fmt::Debug + Send + Sync {
    /// Whether these signatures suffice for a manifest; if not, a sentence that says what is missing.
    fn approve(&self, manifest: &Digest, signatures: &[Signature]) -> Result<(), String>;

    /// Whether one of the keys made this signature, whatever it is about.
    fn made(&self, signature: &Signature) -> bool;
}
