//! Who judges signatures: not this crate, which knows no keys. The program gives it a judge.

use std::collections::BTreeMap;
use std::fmt;

use hab_oci::Digest;

/// The media type of a document that cosign signed before version 3.
pub(crate) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The media type of a sigstore bundle, in which cosign signs since.
pub(crate) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What an artifact that carries signatures says it is, as a referrer.
const SIGNATURE_TYPES: [&str; 3] =
    [BUNDLE, SIMPLE_SIGNING, "application/vnd.dev.cosign.artifact.sig.v1+json"];
/// The annotation of a layer that holds the signature over its bytes.
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The annotation of a bundle's manifest that says what kind of statement is in it, and what that is of a signature.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// What some registries say of every artifact, whose configuration is empty.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A signature as somebody wrote it: **unverified**.
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
    /// The bytes that are kept of it.
    pub(super) fn payload(&self) -> &[u8] {
        match self {
            Self::Document { payload, .. } => payload,
            Self::Bundle(bytes) => bytes,
        }
    }
}

/// Somebody who knows the keys that an operator trusts.
pub trait Judge: fmt::Debug + Send + Sync {
    /// Whether these suffice for a manifest; otherwise a sentence that says what is missing.
    fn approve(&self, manifest: &Digest, signatures: &[Signature]) -> Result<(), String>;

    /// Whether one of the keys made this, whatever it is about.
    fn made(&self, signature: &Signature) -> bool;
}

/// How likely it is that a referrer carries signatures, the likeliest first; `None` if it does not. A list may leave
/// out what an artifact is, and the annotation is nobody's promise: whatever may be one is looked at, as far as there
/// is room.
pub(super) fn likelihood(artifact_type: Option<&str>, annotations: &BTreeMap<String, String>) -> Option<u8> {
    match (artifact_type, annotations.get(PREDICATE).map(String::as_str)) {
        (Some(BUNDLE), Some(SIGN)) => Some(0),
        // Of an SBOM or the like.
        (Some(BUNDLE), Some(_)) => Some(3),
        (Some(kind), _) if SIGNATURE_TYPES.contains(&kind) => Some(1),
        (None | Some("" | EMPTY), _) => Some(2),
        (Some(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_looked_for_first_where_it_is_likely() {
        let note = |text: &str| BTreeMap::from([(PREDICATE.to_owned(), text.to_owned())]);
        let none = BTreeMap::new();
        let order = [
            likelihood(Some(BUNDLE), &note(SIGN)),
            likelihood(Some(BUNDLE), &none),
            likelihood(Some(EMPTY), &none),
            likelihood(Some(BUNDLE), &note("https://spdx.dev/Document")),
        ];
        assert!(order.is_sorted() && order.iter().all(Option::is_some), "{order:?}");
        assert_eq!(likelihood(None, &none), likelihood(Some(EMPTY), &none));
        assert_eq!(likelihood(Some(SIMPLE_SIGNING), &none), likelihood(Some(BUNDLE), &none));
        assert_eq!(likelihood(Some("sbom/type"), &note(SIGN)), None);
    }
}
