//! Verifies signatures of images by a plain public key, in two forms. The older one, of cosign before version 3, podman
//! and skopeo, is a document in the simple signing format (containers/image, "container-signature(5)") that names a
//! manifest's digest, and a signature over its bytes. The newer one is a bundle of cosign 3 ([`bundle`]).
//!
//! A signature says who made the bytes of a manifest. It does not say that a tag is the newest one. Nor does it say
//! that the image belongs into the repository where it was found, unless `identity` is required.

mod bundle;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;

use hab_oci::json::{self, Shape};
use hab_oci::{Digest, shown};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::sign::Verifier;
use serde::Deserialize;

use bundle::Envelope;

/// The `type` of a document in the simple signing format.
const KIND: &str = "cosign container image signature";
/// The longest signature in base64, in bytes; one by P-256 has 96.
const SIGNATURE: usize = 4096;

/// A public key: ECDSA over P-256 with SHA-256, or Ed25519.
#[derive(Clone)]
pub struct ImageKey {
    name: String,
    key: PKey<Public>,
}

/// A text that is not a usable key for images, or an impossible threshold.
#[derive(Debug, thiserror::Error)]
pub enum ImageKeyError {
    /// It is not a key.
    #[error("{name} is not a public key in PEM (-----BEGIN PUBLIC KEY-----)")]
    Pem {
        /// The key's name.
        name: String,
        /// OpenSSL's error.
        #[source]
        source: openssl::error::ErrorStack,
    },
    /// It is a key of another kind.
    #[error("{name} is a key of another kind: expected ECDSA over P-256, or Ed25519")]
    Kind {
        /// The key's name.
        name: String,
    },
    /// More signatures are required than there are keys.
    #[error("{threshold} of {keys} keys cannot be demanded: at least 1, and at most as many as there are")]
    Threshold {
        /// How many signatures are required.
        threshold: usize,
        /// How many different keys there are.
        keys: usize,
    },
}

/// Which keys may sign images, and how many of them must.
#[derive(Clone, Debug)]
pub struct ImagePolicy {
    keys: Vec<ImageKey>,
    threshold: usize,
}

/// A signature as it was found.
#[derive(Clone, Copy, Debug)]
pub enum ImageSignature<'a> {
    /// A document in the simple signing format.
    Document {
        /// The signed bytes.
        payload: &'a [u8],
        /// The signature over them, in base64.
        signature: &'a str,
    },
    /// A sigstore bundle in JSON.
    Bundle(&'a [u8]),
}

/// A parsed signature; **unverified**.
enum Reading<'a> {
    Document { payload: &'a [u8], signature: Vec<u8> },
    Bundle(Envelope),
}

const FREE: Shape = Shape::Free;

/// The field names in a document of the simple signing format.
const DOCUMENT: Shape = Shape::Fields(&[
    (
        "critical",
        Shape::Fields(&[
            ("identity", Shape::Fields(&[("docker-reference", FREE)])),
            ("image", Shape::Fields(&[("docker-manifest-digest", FREE)])),
            ("type", FREE),
        ]),
    ),
    ("optional", FREE),
]);

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl std::fmt::Debug for ImageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageKey({})", self.name)
    }
}

impl ImageKey {
    /// Parses a key; `name` is its name for people.
    pub fn read(name: &str, pem: &[u8]) -> Result<Self, ImageKeyError> {
        let key = PKey::public_key_from_pem(pem)
            .map_err(|source| ImageKeyError::Pem { name: name.to_owned(), source })?;
        let known = match key.id() {
            Id::ED25519 => true,
            Id::EC => key.ec_key().is_ok_and(|key| key.group().curve_name() == Some(Nid::X9_62_PRIME256V1)),
            _ => false,
        };
        if known {
            Ok(Self { name: name.to_owned(), key })
        } else {
            Err(ImageKeyError::Kind { name: name.to_owned() })
        }
    }

    /// Whether this key made the signature, whatever the signature is about.
    fn made(&self, reading: &Reading<'_>) -> bool {
        let (signed, signature) = match reading {
            Reading::Document { payload, signature } => (Cow::Borrowed(*payload), signature),
            Reading::Bundle(envelope) => (Cow::Owned(envelope.signed()), &envelope.signature),
        };
        let verifier = if self.key.id() == Id::ED25519 {
            Verifier::new_without_digest(&self.key)
        } else {
            Verifier::new(MessageDigest::sha256(), &self.key)
        };
        // If OpenSSL cannot parse a signature, it is not valid.
        verifier.is_ok_and(|mut verifier| verifier.verify_oneshot(signature, &signed).unwrap_or(false))
    }
}

impl ImagePolicy {
    /// `threshold` of these keys must sign. A key that is given twice counts once.
    pub fn new(keys: Vec<ImageKey>, threshold: usize) -> Result<Self, ImageKeyError> {
        let mut different: Vec<ImageKey> = Vec::new();
        for key in keys {
            if !different.iter().any(|other| other.key.public_eq(&key.key)) {
                different.push(key);
            }
        }
        if (1..=different.len()).contains(&threshold) {
            Ok(Self { keys: different, threshold })
        } else {
            Err(ImageKeyError::Threshold { threshold, keys: different.len() })
        }
    }

    /// Checks that enough keys signed this manifest; the error says what is missing. `identity` decides whether the
    /// image name in a signature, without its tag, fits this image. The name is empty if a signature has none, as with
    /// cosign since version 3.
    pub fn weigh<'a>(
        &self,
        manifest: &Digest,
        signatures: impl IntoIterator<Item = ImageSignature<'a>>,
        identity: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        let mut seen = 0;
        let mut signed = BTreeSet::new();
        let mut strange = None;
        for signature in signatures {
            seen += 1;
            let Some(reading) = Reading::of(signature) else { continue };
            let Some(at) = self.keys.iter().position(|key| key.made(&reading)) else { continue };
            // Empty if a trusted key signed something else.
            for name in reading.names_of(manifest) {
                let name = without_tag(&name);
                if identity(name) {
                    signed.insert(at);
                } else {
                    strange = Some(name.to_owned());
                }
            }
        }
        if signed.len() >= self.threshold {
            return Ok(());
        }
        let missing = self.keys.iter().enumerate().filter(|(at, _)| !signed.contains(at));
        let missing: Vec<&str> = missing.map(|(_, key)| key.name.as_str()).collect();
        let mut sentence = format!(
            "{} of {} keys signed it and {} have to; of {seen} signatures that were found none is by {}",
            signed.len(),
            self.keys.len(),
            self.threshold,
            missing.join(" or ")
        );
        match strange.as_deref() {
            Some("") => sentence.push_str(" for this repository (one names none, and a name is demanded)"),
            Some(name) => {
                sentence.push_str(&format!(" for this repository (one is for {})", shown(name).at_most(100)));
            }
            None => {}
        }
        Err(sentence)
    }

    /// Whether one of the keys made the signature, whatever it is about.
    pub fn made(&self, signature: ImageSignature<'_>) -> bool {
        Reading::of(signature).is_some_and(|reading| self.keys.iter().any(|key| key.made(&reading)))
    }
}

impl<'a> Reading<'a> {
    fn of(signature: ImageSignature<'a>) -> Option<Self> {
        match signature {
            ImageSignature::Document { payload, signature } => {
                let signature = Some(signature.trim()).filter(|text| text.len() <= SIGNATURE)?;
                Some(Self::Document { payload, signature: bundle::decode(signature)? })
            }
            ImageSignature::Bundle(bytes) => Envelope::read(bytes).map(Self::Bundle),
        }
    }

    /// The names that the signature gives this manifest; empty if it does not sign the manifest.
    fn names_of(&self, manifest: &Digest) -> Vec<String> {
        match self {
            Self::Document { payload, .. } => about(payload)
                .filter(|(digest, _)| *digest == manifest.to_string())
                .map(|(_, name)| name)
                .into_iter()
                .collect(),
            Self::Bundle(envelope) => envelope.names_of(manifest),
        }
    }
}

/// The digest and the image name in a document.
fn about(payload: &[u8]) -> Option<(String, String)> {
    let Critical { identity, image, kind } = json::read::<Payload>(payload, DOCUMENT).ok()?.critical;
    (kind == KIND).then_some((image.digest, identity.reference))
}

/// An image's name without tag and digest.
fn without_tag(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or_default();
    // A colon after the last slash begins a tag; one before it begins a port.
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let end = name[slash..].find(':').map_or(name.len(), |at| slash + at);
    &name[..end]
}
