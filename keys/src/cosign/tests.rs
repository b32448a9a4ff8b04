//! Signatures of images as other programs make them, and forged ones.
#![allow(clippy::unwrap_used)]

use openssl::base64;
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

/// A document with one more field.
fn twice(document: &[u8], name: &str) -> Vec<u8> {
    [&document[..document.len() - 1], format!(",\"{name}\":null}}").as_bytes()].concat()
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
    let signatures =
        signed.iter().map(|(payload, signature)| ImageSignature::Document { payload, signature });
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
    assert!(policy.made(ImageSignature::Document { payload: &good, signature: &sign(&key, &good) }));
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
        // A document that two programs could read differently.
        made(&twice(&good, "critical")),
        made(&twice(&good, "Critical")),
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
fn a_bundle_of_cosign_3_counts_for_what_it_signs_by_the_keys_that_were_given() {
    use super::bundle::tests::{bundle, statement};
    const SIGNS: &str = "https://sigstore.dev/cosign/sign/v1";
    let (digest, other) = (Digest::of(b"image"), Digest::of(b"other"));
    for key in [p256(), PKey::generate_ed25519().unwrap()] {
        let policy = ImagePolicy::new(vec![public("k.pub", &key)], 1).unwrap();
        let weigh = |bundle: &serde_json::Value, digest: &Digest, name: &str| {
            let bytes = bundle.to_string().into_bytes();
            assert!(policy.made(ImageSignature::Bundle(&bytes)));
            policy.weigh(digest, [ImageSignature::Bundle(&bytes)], |found| found == name)
        };
        let good = bundle(&statement(SIGNS, "r.invalid/a:v1", &digest), |bytes| sign(&key, bytes));
        assert_eq!(weigh(&good, &digest, "r.invalid/a"), Ok(()));
        assert!(weigh(&good, &other, "r.invalid/a").unwrap_err().contains("none is by k.pub"));
        assert!(weigh(&good, &digest, "r.invalid/b").unwrap_err().contains("one is for r.invalid/a"));
        let unnamed = bundle(&statement(SIGNS, "", &digest), |bytes| sign(&key, bytes));
        assert_eq!(weigh(&unnamed, &digest, ""), Ok(()));
        let said = weigh(&unnamed, &digest, "r.invalid/a").unwrap_err();
        assert!(said.contains("one names none, and a name is demanded"), "{said}");
        // Another statement by the same key about the image does not sign it.
        let about = statement("https://slsa.dev/verification_summary/v1", "r.invalid/a", &digest);
        let about = bundle(&about, |bytes| sign(&key, bytes));
        assert!(weigh(&about, &digest, "r.invalid/a").is_err());
    }
    let (key, stranger) = (p256(), p256());
    let policy = ImagePolicy::new(vec![public("k.pub", &key)], 1).unwrap();
    let said = statement(SIGNS, "", &digest);
    let mut smuggled = bundle(&said, |bytes| sign(&stranger, bytes));
    let pem = stranger.public_key_to_pem().unwrap();
    smuggled["verificationMaterial"]["publicKey"]["rawBytes"] = base64::encode_block(&pem).into();
    // A signature over the statement alone, without DSSE's prefix.
    let bare = bundle(&said, |_| sign(&key, said.to_string().as_bytes()));
    for bad in [smuggled, bare, bundle(&said, |_| String::new())] {
        let bytes = bad.to_string().into_bytes();
        assert!(!policy.made(ImageSignature::Bundle(&bytes)), "{bad}");
        assert!(policy.weigh(&digest, [ImageSignature::Bundle(&bytes)], |_| true).is_err(), "{bad}");
    }
}

#[test]
fn a_bundle_that_cosign_3_itself_made_counts_and_with_one_byte_changed_it_does_not() {
    let made = include_bytes!("testdata/cosign-3.json");
    let key = ImageKey::read("k.pub", include_bytes!("testdata/cosign-3.pub")).unwrap();
    let policy = ImagePolicy::new(vec![key], 1).unwrap();
    let signed = "sha256:37c96fdd7226c96f3bf5d2d34c6965ba22338288425244388346dea17e3b1a57".parse().unwrap();
    let weigh = |bytes: &[u8], of: &Digest| policy.weigh(of, [ImageSignature::Bundle(bytes)], |_| true);
    assert_eq!(weigh(made, &signed), Ok(()));
    assert!(weigh(made, &Digest::of(b"image")).is_err());
    let text = std::str::from_utf8(made).unwrap();
    for field in ["\"payload\":\"", "\"sig\":\""] {
        let at = text.find(field).unwrap() + field.len();
        for n in at..at + 80 {
            let mut bytes = made.to_vec();
            bytes[n] = if bytes[n] == b'A' { b'B' } else { b'A' };
            assert!(weigh(&bytes, &signed).is_err(), "{n}");
        }
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
