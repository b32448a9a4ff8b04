//! Signatures that cosign and skopeo make of images: a document in the simple signing format (containers/image,
//! "container-signature(5)") that names a manifest's digest, and a signature over its bytes by a plain public key.
//!
//! A signature says who made the bytes of a manifest. It does not say that a tag is the newest, nor, unless `identity`
//! is demanded, that the image belongs into the repository that it was found in.

use std::collections::BTreeSet;

use hab_oci::Digest;
use openssl::base64;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::sign::Verifier;
use serde::Deserialize;

/// What the format calls itself.
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
pub struct ImageSignature<'a> {
    /// The signed bytes.
    pub payload: &'a [u8],
    /// The signature over them, base64.
    pub signature: &'a str,
}

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
    fn made(&self, signature: ImageSignature<'_>) -> bool {
        if signature.signature.len() > SIGNATURE {
            return false;
        }
        let Ok(bytes) = base64::decode_block(signature.signature.trim()) else { return false };
        let verifier = if self.key.id() == Id::ED25519 {
            Verifier::new_without_digest(&self.key)
        } else {
            Verifier::new(MessageDigest::sha256(), &self.key)
        };
        // What OpenSSL cannot read is no signature.
        verifier.is_ok_and(|mut verifier| verifier.verify_oneshot(&bytes, signature.payload).unwrap_or(false))
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
    /// name that a signature gives the image, without its tag, may be this one's.
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
            let Some(at) = self.keys.iter().position(|key| key.made(signature)) else { continue };
            match about(signature.payload) {
                Some((digest, name)) if digest == manifest.to_string() => {
                    if identity(&name) {
                        signed.insert(at);
                    } else {
                        strange = Some(name);
                    }
                }
                // By a key that is trusted, over something else.
                _ => {}
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
        if let Some(name) = strange {
            sentence.push_str(&format!(" for this repository (one is for {})", printable(&name)));
        }
        Err(sentence)
    }

    /// Whether one of the keys made a signature, whatever it is about.
    pub fn made(&self, signature: ImageSignature<'_>) -> bool {
        self.keys.iter().any(|key| key.made(signature))
    }
}

/// The digest that a payload names, and the image's name without its tag.
fn about(payload: &[u8]) -> Option<(String, String)> {
    let Critical { identity, image, kind } = serde_json::from_slice::<Payload>(payload).ok()?.critical;
    let name = identity.reference;
    let name = name.split('@').next().unwrap_or_default();
    // A colon behind the last slash begins a tag; one before it a port.
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let end = name[slash..].find(':').map_or(name.len(), |at| slash + at);
    (kind == KIND).then(|| (image.digest, name[..end].to_owned()))
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use openssl::ec::{EcGroup, EcKey};
    use openssl::pkey::Private;
    use openssl::sign::Signer;

    use super::*;

    fn p256() -> PKey<Private> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    fn public(name: &str, key: &PKey<Private>) -> ImageKey {
        ImageKey::read(name, &key.public_key_to_pem().unwrap()).unwrap()
    }

    fn payload(reference: &str, digest: &Digest) -> Vec<u8> {
        format!(
            "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"{reference}\"}},\"image\":\
             {{\"docker-manifest-digest\":\"{digest}\"}},\"type\":\"{KIND}\"}},\"optional\":null}}"
        )
        .into_bytes()
    }

    fn sign(key: &PKey<Private>, payload: &[u8]) -> String {
        let mut signer = if key.id() == Id::ED25519 {
            Signer::new_without_digest(key).unwrap()
        } else {
            Signer::new(MessageDigest::sha256(), key).unwrap()
        };
        base64::encode_block(&signer.sign_oneshot_to_vec(payload).unwrap())
    }

    fn weigh(policy: &ImagePolicy, digest: &Digest, signed: &[(Vec<u8>, String)]) -> Result<(), String> {
        let signatures = signed.iter().map(|(payload, signature)| ImageSignature { payload, signature });
        policy.weigh(digest, signatures, |name| name == "r.invalid/a/b")
    }

    #[test]
    fn a_signature_by_either_kind_of_key_counts_and_each_key_once() {
        let (one, two) = (p256(), PKey::generate_ed25519().unwrap());
        let keys = || vec![public("one.pub", &one), public("two.pub", &two), public("again.pub", &one)];
        let digest = Digest::of(b"image");
        let text = payload("r.invalid/a/b:v1", &digest);
        let signed = |key| (text.clone(), sign(key, &text));
        let policy = ImagePolicy::new(keys(), 1).unwrap();
        assert_eq!(weigh(&policy, &digest, &[signed(&one)]), Ok(()));
        assert_eq!(weigh(&policy, &digest, &[signed(&two)]), Ok(()));
        let both = ImagePolicy::new(keys(), 2).unwrap();
        assert_eq!(weigh(&both, &digest, &[signed(&two), signed(&one)]), Ok(()));
        let once = weigh(&both, &digest, &[signed(&one), signed(&one)]).unwrap_err();
        assert_eq!(
            once,
            "1 of 2 keys signed it and 2 have to; of 2 signatures that were found none is by two.pub"
        );
        assert!(ImagePolicy::new(keys(), 3).unwrap_err().to_string().contains("3 of 2 keys"));
        assert!(ImagePolicy::new(keys(), 0).is_err());
    }

    #[test]
    fn a_signature_over_other_bytes_another_digest_type_or_name_does_not_count() {
        let (key, other) = (p256(), p256());
        let policy = ImagePolicy::new(vec![public("k.pub", &key)], 1).unwrap();
        let (digest, another) = (Digest::of(b"image"), Digest::of(b"another"));
        let good = payload("r.invalid/a/b", &digest);
        let made = |text: &[u8]| (text.to_vec(), sign(&key, text));
        assert_eq!(weigh(&policy, &digest, &[made(&good)]), Ok(()));
        assert!(policy.made(ImageSignature { payload: &good, signature: &sign(&key, &good) }));
        let mut changed = good.clone();
        *changed.last_mut().unwrap() = b' ';
        let text = String::from_utf8(good.clone()).unwrap();
        let kind = text.replace(KIND, "atomic container signature").into_bytes();
        let bad = [
            (changed, sign(&key, &good)),
            (good.clone(), sign(&other, &good)),
            made(&payload("r.invalid/a/b", &another)),
            made(&kind),
            made(b"not json"),
            (good.clone(), String::new()),
            (good.clone(), "AAAA".to_owned()),
            (good.clone(), "?".repeat(100)),
            (good.clone(), "A".repeat(100_000)),
        ];
        for each in &bad {
            let said = weigh(&policy, &digest, std::slice::from_ref(each)).unwrap_err();
            assert!(said.contains("none is by k.pub"), "{said}");
        }
        for name in ["r.invalid/a/c:v1", "r.invalid:80/a/b", "r.invalid/a/b/c", ""] {
            let said = weigh(&policy, &digest, &[made(&payload(name, &digest))]).unwrap_err();
            assert!(said.contains("for this repository"), "{name}: {said}");
        }
        for name in ["r.invalid/a/b:v9", "r.invalid/a/b@sha256:00", "r.invalid/a/b:v1@sha256:00"] {
            assert_eq!(weigh(&policy, &digest, &[made(&payload(name, &digest))]), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_is_no_key_of_these_kinds_is_refused() {
        for text in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert!(matches!(ImageKey::read("k", text.as_bytes()), Err(ImageKeyError::Pem { .. })), "{text}");
        }
        let rsa = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
        let group = EcGroup::from_curve_name(Nid::SECP384R1).unwrap();
        let p384 = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        for key in [rsa, p384] {
            let read = ImageKey::read("k", &key.public_key_to_pem().unwrap());
            assert!(matches!(read, Err(ImageKeyError::Kind { .. })));
        }
        let private = p256().private_key_to_pem_pkcs8().unwrap();
        assert!(ImageKey::read("k", &private).is_err());
    }
}
