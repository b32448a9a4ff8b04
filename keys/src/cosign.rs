//! Signatures of images, by a plain public key, in two forms: a document in the simple signing format
//! (containers/image, "container-signature(5)") that names a manifest's digest and a signature over its bytes, as
//! cosign made them before version 3 and podman and skopeo do; and what cosign makes since ([`bundle`]).
//!
//! A signature says who made the bytes of a manifest. It does not say that a tag is the newest, nor, unless `identity`
//! is demanded, that the image belongs into the repository that it was found in.

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

/// What the simple signing format calls itself.
const KIND: &str = "cosign container image signature";
/// The most bytes of a signature in base64; one by P-256 has 96.
const SIGNATURE: usize = 4096;

/// A public key: ECDSA over P-256 with SHA-256, or Ed25519.
#[derive(Clone)]
pub struct ImageKey {
    name: String,
    key: PKey<Public>,
}

/// Text that is no key that images are signed by.
#[derive(Debug, thiserror::Error)]
pub enum ImageKeyError {
    /// Not a key at all.
    #[error("{name} is not a public key in PEM (-----BEGIN PUBLIC KEY-----)")]
    Pem {
        /// Which.
        name: String,
        /// What OpenSSL says.
        #[source]
        source: openssl::error::ErrorStack,
    },
    /// Another kind of key.
    #[error("{name} is a key of another kind: expected ECDSA over P-256, or Ed25519")]
    Kind {
        /// Which.
        name: String,
    },
    /// More signatures demanded than keys given.
    #[error("{threshold} of {keys} keys cannot be demanded: at least 1, and at most as many as there are")]
    Threshold {
        /// How many are demanded.
        threshold: usize,
        /// How many different keys there are.
        keys: usize,
    },
}

/// Which keys may sign images, and how many of them have to.
#[derive(Clone, Debug)]
pub struct ImagePolicy {
    keys: Vec<ImageKey>,
    threshold: usize,
}

/// A signature as somebody wrote it.
#[derive(Clone, Copy, Debug)]
pub enum ImageSignature<'a> {
    /// A document in the simple signing format.
    Document {
        /// The signed bytes.
        payload: &'a [u8],
        /// The signature over them, base64.
        signature: &'a str,
    },
    /// A sigstore bundle, JSON.
    Bundle(&'a [u8]),
}

/// A signature that was read; **unverified**.
enum Reading<'a> {
    Document { payload: &'a [u8], signature: Vec<u8> },
    Bundle(Envelope),
}

const FREE: Shape = Shape::Free;

/// The names in a document of the simple signing format.
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
    /// Reads a key; `name` is what people call it.
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

    /// Whether this key made it, whatever it says.
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
        // What OpenSSL cannot read is no signature.
        verifier.is_ok_and(|mut verifier| verifier.verify_oneshot(signature, &signed).unwrap_or(false))
    }
}

impl ImagePolicy {
    /// `threshold` of these keys have to sign. A key that is given twice counts once.
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

    /// Whether enough keys signed this manifest; otherwise a sentence that says what is missing. `identity`: whether the
    /// name that a signature gives the image, without its tag, may be this one's. It is empty where a signature gives
    /// none, as cosign's do since version 3.
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
            // None if it is by a key that is trusted, over something else.
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

    /// Whether one of the keys made a signature, whatever it is about.
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

    /// The names that it gives a manifest; none if it does not sign it.
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

/// The digest that a document names, and the image's name.
fn about(payload: &[u8]) -> Option<(String, String)> {
    let Critical { identity, image, kind } = json::read::<Payload>(payload, DOCUMENT).ok()?.critical;
    (kind == KIND).then_some((image.digest, identity.reference))
}

/// An image's name without its tag and digest.
fn without_tag(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or_default();
    // A colon behind the last slash begins a tag; one before it a port.
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let end = name[slash..].find(':').map_or(name.len(), |at| slash + at);
    &name[..end]
}
