//! One judgement over signed bytes, by sequoia's standard policy and one of ours.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::SystemTime;

use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::parse::stream::{
    DetachedVerifierBuilder, MessageLayer, MessageStructure, VerificationError, VerificationHelper,
    VerifierBuilder,
};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::RevocationStatus;
use sequoia_openpgp::{Cert, Fingerprint, KeyHandle};

use crate::{Certificates, Policy, Refusal, RequirementKind, SignatureSeen, Verdict};

/// A request to judge, beside the bytes.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub what: &'a str,
    pub kind: RequirementKind,
    pub policy: &'a Policy,
    pub certificates: &'a Certificates,
    pub now: SystemTime,
}

/// Judges clearsigned text. Returns exactly the text that is signed, and every signature seen.
pub(crate) fn clearsigned(
    asked: Asked<'_>,
    bytes: &[u8],
    limit: u64,
) -> Result<(Vec<u8>, Vec<SignatureSeen>), Refusal> {
    admit(asked)?;
    if !bytes.starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----") {
        return Err(Refusal::Unsigned {
            what: asked.what.to_owned(),
            policy: asked.policy.name().to_owned(),
        });
    }
    let unreadable = |e: &dyn std::fmt::Display| Refusal::Unreadable {
        what: asked.what.to_owned(),
        detail: e.to_string(),
    };
    let standard = StandardPolicy::new();
    let mut verifier = VerifierBuilder::from_bytes(bytes)
        .and_then(|b| b.with_policy(&standard, asked.now, Collector::new(asked)))
        .map_err(|e| unreadable(&e))?;
    let mut text = Vec::new();
    verifier.by_ref().take(limit).read_to_end(&mut text).map_err(|e| unreadable(&e))?;
    // The signatures stand after the text, so they are only known once all of it was read.
    if text.len() as u64 == limit {
        return Err(unreadable(&format!("it is larger than {limit} bytes")));
    }
    let seen = verifier.into_helper().seen;
    decide(asked, &seen)?;
    Ok((text, seen.into_iter().map(|(_, s)| s).collect()))
}

/// Judges `signature`, detached, over `bytes`.
pub(crate) fn detached(
    asked: Asked<'_>,
    signature: &[u8],
    bytes: &[u8],
) -> Result<Vec<SignatureSeen>, Refusal> {
    admit(asked)?;
    let unreadable = |e: sequoia_openpgp::anyhow::Error| Refusal::Unreadable {
        what: asked.what.to_owned(),
        detail: e.to_string(),
    };
    let standard = StandardPolicy::new();
    let mut verifier = DetachedVerifierBuilder::from_bytes(signature)
        .and_then(|b| b.with_policy(&standard, asked.now, Collector::new(asked)))
        .map_err(unreadable)?;
    verifier.verify_bytes(bytes).map_err(unreadable)?;
    let seen = verifier.into_helper().seen;
    decide(asked, &seen)?;
    Ok(seen.into_iter().map(|(_, s)| s).collect())
}

fn admit(asked: Asked<'_>) -> Result<(), Refusal> {
    let (what, policy) = (asked.what.to_owned(), asked.policy.name().to_owned());
    if asked.policy.kind() != asked.kind {
        return Err(Refusal::WrongPolicy { what, policy });
    }
    if asked.policy.keys().is_empty() {
        return Err(Refusal::NeedsKeys { what, policy });
    }
    Ok(())
}

/// One key that signs three times is one signer: distinct primary fingerprints are counted.
fn decide(asked: Asked<'_>, seen: &[(Option<Fingerprint>, SignatureSeen)]) -> Result<(), Refusal> {
    let good: BTreeSet<_> =
        seen.iter().filter(|(_, s)| s.verdict == Verdict::Good).filter_map(|(f, _)| f.as_ref()).collect();
    if good.len() >= asked.policy.threshold() {
        return Ok(());
    }
    let words = seen.iter().map(|(_, s)| {
        let verdict = match &s.verdict {
            Verdict::Good => "good".to_owned(),
            Verdict::UnknownKey => "not a pinned key, or its certificate is not here".to_owned(),
            Verdict::BadKey(why) | Verdict::Bad(why) => why.clone(),
        };
        format!("{}: {verdict}", s.key)
    });
    let seen = words.collect::<Vec<_>>().join("; ");
    Err(Refusal::Signatures {
        what: asked.what.to_owned(),
        policy: asked.policy.name().to_owned(),
        good: good.len(),
        threshold: asked.policy.threshold(),
        seen: if seen.is_empty() { "no signature was seen".to_owned() } else { format!("seen: {seen}") },
    })
}

struct Collector<'a> {
    asked: Asked<'a>,
    seen: Vec<(Option<Fingerprint>, SignatureSeen)>,
}

impl<'a> Collector<'a> {
    fn new(asked: Asked<'a>) -> Self {
        Self { asked, seen: Vec::new() }
    }

    /// sequoia judges a key at the time that the signature claims, which whoever holds an expired or retired key can
    /// choose. So the certificate and the key itself must be alive and not revoked now too.
    fn still(&self, cert: &Cert, signer: &Fingerprint) -> Verdict {
        let standard = StandardPolicy::new();
        let now = match cert.with_policy(&standard, self.asked.now) {
            Ok(now) => now,
            Err(e) => return Verdict::BadKey(format!("valid when made, but not now: {e}")),
        };
        if let Err(e) = now.alive() {
            return Verdict::BadKey(format!("valid when made, but not now: {e}"));
        }
        if matches!(now.revocation_status(), RevocationStatus::Revoked(_)) {
            return Verdict::BadKey("its certificate is revoked".to_owned());
        }
        let mut live = now.keys().alive().revoked(false).for_signing();
        if live.any(|ka| ka.key().fingerprint() == *signer) {
            Verdict::Good
        } else {
            Verdict::BadKey("the key that signed is expired or revoked now".to_owned())
        }
    }

    fn add(&mut self, sig: Option<&Signature>, cert: Option<&Cert>, verdict: Verdict) {
        let fingerprint = cert.map(Cert::fingerprint);
        let issuer = sig.and_then(|s| s.get_issuers().first().map(ToString::to_string));
        let key = fingerprint.as_ref().map(ToString::to_string).or(issuer);
        self.seen.push((
            fingerprint.clone(),
            SignatureSeen {
                key: key.unwrap_or_else(|| "unknown issuer".to_owned()),
                name: fingerprint.and_then(|f| self.asked.policy.keys().get(&f).cloned()),
                made: sig.and_then(|s| s.signature_creation_time()).and_then(rfc3339),
                hash: sig.map_or_else(|| "unknown".to_owned(), |s| s.hash_algo().to_string()),
                verdict,
            },
        ));
    }
}

fn rfc3339(time: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(time).ok().map(|t| t.to_string())
}

impl VerificationHelper for Collector<'_> {
    fn get_certs(&mut self, ids: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        Ok(self.asked.certificates.named_by(ids))
    }

    /// Never fails: one broken signature must not hide a good one. `decide` counts afterwards.
    fn check(&mut self, structure: MessageStructure<'_>) -> sequoia_openpgp::Result<()> {
        for layer in structure {
            let MessageLayer::SignatureGroup { results } = layer else { continue };
            for result in results {
                use VerificationError as E;
                match result {
                    Ok(good) => {
                        let verdict = self.still(good.ka.cert(), &good.ka.key().fingerprint());
                        self.add(Some(good.sig), Some(good.ka.cert()), verdict);
                    }
                    Err(E::MissingKey { sig }) => self.add(Some(sig), None, Verdict::UnknownKey),
                    Err(E::UnboundKey { sig, cert, error }) => {
                        self.add(Some(sig), Some(cert), Verdict::BadKey(error.to_string()));
                    }
                    Err(E::BadKey { sig, ka, error }) => {
                        self.add(Some(sig), Some(ka.cert()), Verdict::BadKey(error.to_string()));
                    }
                    Err(E::BadSignature { sig, ka, error }) => {
                        self.add(Some(sig), Some(ka.cert()), Verdict::Bad(error.to_string()));
                    }
                    Err(E::MalformedSignature { sig, error }) => {
                        self.add(Some(sig), None, Verdict::Bad(error.to_string()));
                    }
                    Err(E::UnknownSignature { sig }) => {
                        self.add(None, None, Verdict::Bad(sig.error().to_string()));
                    }
                    // The enum may grow; whatever else can fail is not a good signature.
                    Err(other) => self.add(None, None, Verdict::Bad(other.to_string())),
                }
            }
        }
        Ok(())
    }
}
