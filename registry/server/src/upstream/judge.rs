//! Who judges signatures: not this crate, which knows no keys. The program gives it a judge.

use std::fmt;

use hab_oci::Digest;

/// The media type of a payload that cosign signs.
pub(crate) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// What an artifact that carries signatures says it is, as a referrer.
pub(crate) const SIGNATURE_TYPES: [&str; 2] =
    [SIMPLE_SIGNING, "application/vnd.dev.cosign.artifact.sig.v1+json"];
/// The annotation of a layer that holds the signature over its bytes.
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// A signature as somebody wrote it: **unverified**.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The signed bytes: a document in the simple signing format.
    pub payload: Vec<u8>,
    /// The signature over them, base64.
    pub signature: String,
}

/// Somebody who knows the keys that an operator trusts.
pub trait Judge: fmt::Debug + Send + Sync {
    /// Whether these suffice for a manifest; otherwise a sentence that says what is missing.
    fn approve(&self, manifest: &Digest, signatures: &[Signature]) -> Result<(), String>;

    /// Whether one of the keys made this, whatever it is about.
    fn made(&self, signature: &Signature) -> bool;
}
