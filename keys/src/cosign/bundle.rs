//! Parses signatures as cosign makes them since version 3: a sigstore bundle (sigstore's protobuf-specs,
//! "sigstore_bundle.proto", version 0.3) around a DSSE envelope (secure-systems-lab/dsse, "protocol.md") around an
//! in-toto statement that names the signed digests.
//!
//! A bundle may contain keys, certificates and log entries. None of them is used: the author of the bundle chose them,
//! and only keys that the operator gave count here. The hint, which says which key to try first, is not used either.

use std::collections::BTreeMap;

use hab_oci::Digest;
use hab_oci::json::{self, Shape};
use openssl::base64;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The bundle's media type.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The payload type in the envelope.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The type of the statement.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The predicate type that means "I sign these digests" and nothing else. Any other statement says something about an
/// image, perhaps that it must not be used.
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

const FREE: Shape = Shape::Free;

const BUNDLE: Shape = Shape::Fields(&[
    ("mediaType", FREE),
    (
        "verificationMaterial",
        Shape::Fields(&[
            ("publicKey", Shape::Fields(&[("hint", FREE)])),
            ("certificate", FREE),
            ("x509CertificateChain", FREE),
            ("tlogEntries", FREE),
            ("timestampVerificationData", FREE),
        ]),
    ),
    ("messageSignature", FREE),
    (
        "dsseEnvelope",
        Shape::Fields(&[
            ("payload", FREE),
            ("payloadType", FREE),
            ("signatures", Shape::Fields(&[("sig", FREE), ("keyid", FREE)])),
        ]),
    ),
]);

const SAID: Shape = Shape::Fields(&[
    ("_type", FREE),
    ("predicateType", FREE),
    ("predicate", FREE),
    (
        "subject",
        Shape::Fields(&[
            ("name", FREE),
            ("uri", FREE),
            ("digest", FREE),
            ("content", FREE),
            ("downloadLocation", FREE),
            ("mediaType", FREE),
            ("annotations", FREE),
        ]),
    ),
]);

/// Unknown names are refused: the format has two spellings for each of its fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bundle {
    media_type: String,
    #[serde(rename = "verificationMaterial")]
    _material: IgnoredAny,
    dsse_envelope: Sealed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sealed {
    payload: String,
    payload_type: String,
    signatures: Vec<Seal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    sig: String,
    #[serde(rename = "keyid", default)]
    _keyid: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    name: String,
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

/// The signed part of a bundle, and its only signature; **unverified**.
pub(super) struct Envelope {
    /// The payload.
    statement: Vec<u8>,
    /// The signature, decoded from base64.
    pub(super) signature: Vec<u8>,
}

impl Envelope {
    /// Parses a bundle; `None` if it is not of this version, or has no envelope with exactly one signature.
    pub(super) fn read(bundle: &[u8]) -> Option<Self> {
        let Bundle { media_type, dsse_envelope: sealed, .. } = json::read(bundle, BUNDLE).ok()?;
        let [seal] = sealed.signatures.as_slice() else { return None };
        if media_type != MEDIA_TYPE
            || sealed.payload_type != PAYLOAD_TYPE
            || seal.sig.len() > super::SIGNATURE
        {
            return None;
        }
        Some(Self { statement: decode(&sealed.payload)?, signature: decode(&seal.sig)? })
    }

    /// The bytes that the signature covers: DSSE's "pre-authentication encoding".
    pub(super) fn signed(&self) -> Vec<u8> {
        let (kind, length) = (PAYLOAD_TYPE, self.statement.len());
        let mut bytes = format!("DSSEv1 {} {kind} {length} ", kind.len()).into_bytes();
        bytes.extend_from_slice(&self.statement);
        bytes
    }

    /// The names that the statement gives a manifest, each perhaps empty; no name if it does not sign the manifest.
    /// Valid only if the signature is valid.
    pub(super) fn names_of(&self, manifest: &Digest) -> Vec<String> {
        let Ok(statement) = json::read::<Statement>(&self.statement, SAID) else { return Vec::new() };
        if statement.kind != STATEMENT || statement.predicate_type != SIGN {
            return Vec::new();
        }
        let is_it = |subject: &Subject| {
            subject.digest.get(manifest.algorithm().name()).is_some_and(|hex| hex == manifest.hex())
        };
        statement.subject.into_iter().filter(is_it).map(|subject| subject.name).collect()
    }
}

/// Decodes base64 in its only canonical spelling: padded, and without anything in between.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    base64::decode_block(text).ok().filter(|bytes| base64::encode_block(bytes) == text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A statement as cosign writes it.
    pub(crate) fn statement(predicate_type: &str, name: &str, digest: &Digest) -> Value {
        json!({
            "_type": STATEMENT, "predicateType": predicate_type, "predicate": {},
            "subject": [{"name": name, "digest": {(digest.algorithm().name()): digest.hex()}}],
        })
    }

    /// A bundle around a statement; `sign` makes the signature over the bytes that it gets.
    pub(crate) fn bundle(statement: &Value, sign: impl FnOnce(&[u8]) -> String) -> Value {
        let statement = statement.to_string().into_bytes();
        let envelope = Envelope { statement, signature: Vec::new() };
        json!({
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": "aGludA=="}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64::encode_block(&envelope.statement), "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": sign(&envelope.signed()), "keyid": ""}],
            },
        })
    }

    fn read(bundle: &Value) -> Option<Envelope> {
        Envelope::read(bundle.to_string().as_bytes())
    }

    #[test]
    fn what_is_signed_begins_with_the_lengths_and_the_type_of_the_payload() {
        let digest = Digest::of(b"image");
        let mut seen = Vec::new();
        let made = bundle(&json!({"a": 1}), |bytes| {
            seen = bytes.to_vec();
            base64::encode_block(b"signature")
        });
        assert_eq!(seen, b"DSSEv1 28 application/vnd.in-toto+json 7 {\"a\":1}");
        let envelope = read(&made).unwrap();
        assert_eq!((envelope.signed(), envelope.signature.as_slice()), (seen, b"signature".as_slice()));
        assert!(envelope.names_of(&digest).is_empty());
    }

    #[test]
    fn a_bundle_that_is_not_exactly_of_this_format_is_none() {
        let made = bundle(&statement(SIGN, "", &Digest::of(b"image")), |_| "AAAA".to_owned());
        assert!(read(&made).is_some());
        let with = |pointer: &str, value: Value| {
            let mut other = made.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            other
        };
        for other in [
            with("/mediaType", json!("application/vnd.dev.sigstore.bundle.v0.4+json")),
            with("/dsseEnvelope/payloadType", json!("text/plain")),
            with("/dsseEnvelope/payload", json!("e30")),
            with("/dsseEnvelope/payload", json!("e30=\n")),
            with("/dsseEnvelope/signatures", json!([])),
            with("/dsseEnvelope/signatures", json!([{"sig": "AAAA"}, {"sig": "AAAA"}])),
            with("/dsseEnvelope/signatures/0/sig", json!("A".repeat(100_000))),
            with(
                "/dsseEnvelope",
                json!({"payload": "", "payloadType": "", "signatures": [], "pay_load": ""}),
            ),
            json!({"mediaType": MEDIA_TYPE, "verificationMaterial": {}, "messageSignature": {}}),
            json!([]),
        ] {
            assert!(read(&other).is_none(), "{other}");
        }
        // The format's other spelling, and names that differ only in case, are refused.
        let text = made.to_string();
        for more in [
            ",\"dsse_envelope\":{}}",
            ",\"DSSEEnvelope\":{}}",
            ",\"dsseEnvelope\":{\"payload\":\"\",\"payloadType\":\"\",\"signatures\":[]}}",
            ",\"messageSignature\":{}}",
        ] {
            let other = format!("{}{more}", text.strip_suffix('}').unwrap());
            assert!(Envelope::read(other.as_bytes()).is_none(), "{more}");
        }
    }

    #[test]
    fn only_a_statement_that_signs_names_what_it_signs() {
        let (digest, other) = (Digest::of(b"image"), Digest::of(b"other"));
        let names = |statement: &Value| {
            let made = bundle(statement, |_| "AAAA".to_owned());
            (read(&made).unwrap().names_of(&digest), read(&made).unwrap().names_of(&other))
        };
        let good = statement(SIGN, "r.invalid/a/b", &digest);
        assert_eq!(names(&good), (vec!["r.invalid/a/b".to_owned()], Vec::new()));
        let mut unnamed = good.clone();
        unnamed["subject"] =
            json!([{"digest": {"sha256": other.hex()}}, {"digest": {"sha256": digest.hex()}}]);
        assert_eq!(names(&unnamed), (vec![String::new()], vec![String::new()]));
        for (pointer, value) in [
            ("/predicateType", json!("https://slsa.dev/verification_summary/v1")),
            ("/_type", json!("https://in-toto.io/Statement/v0.1")),
            ("/subject", json!([])),
            ("/subject/0/digest", json!({"sha512": digest.hex()})),
            ("/subject/0/digest", json!({"sha256": digest.hex().to_uppercase()})),
            ("/subject/0/digest", json!({"sha256": format!("sha256:{}", digest.hex())})),
        ] {
            let mut changed = good.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            assert_eq!(names(&changed).0, Vec::<String>::new(), "{changed}");
        }
        let hex = digest.hex();
        for more in [
            format!(",\"Subject\":[{{\"digest\":{{\"sha256\":\"{hex}\"}}}}]}}"),
            format!(",\"predicateType\":\"{SIGN}\"}}"),
        ] {
            let text = good.to_string();
            let text = format!("{}{more}", text.strip_suffix('}').unwrap());
            let envelope = Envelope { statement: text.into_bytes(), signature: Vec::new() };
            assert!(envelope.names_of(&digest).is_empty(), "{more}");
        }
    }
}
