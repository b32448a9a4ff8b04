//! Judges OpenPGP signatures (RFC 9580) by sequoia's standard policy and by one of the house.

mod verdicts;

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sequoia_openpgp as openpgp;

use openpgp::cert::amalgamation::ValidAmalgamation as _;
use openpgp::packet::Signature;
use openpgp::parse::stream::{
    DetachedVerifierBuilder, MessageLayer, MessageStructure, VerificationError, VerificationHelper,
    VerifierBuilder,
};
use openpgp::parse::{PacketParser, PacketParserResult, Parse as _};
use openpgp::policy::{HashAlgoSecurity, Policy as _, StandardPolicy};
use openpgp::types::SignatureType;
use openpgp::{Cert, Fingerprint, KeyHandle, KeyID, Packet};

use crate::judge::{Judge, Moment};
use crate::policy::{KeyId, Pin};
use crate::usable::{self, policy_for};
use crate::{SignatureSeen, Verdict};

use verdicts::{explain, revoked, standing};

/// The verdicts on keys for a moment, computed once for each key, although it may sign a thousand commits.
#[derive(Default)]
pub(crate) struct Standings {
    found: Mutex<HashMap<(Fingerprint, SystemTime), Verdict>>,
}

/// A signature as sequoia judged it, before the house's policy does.
struct SequoiaVerdict {
    seen: SignatureSeen,
    /// The signer's certificate, if it is known.
    signer: Option<Fingerprint>,
}

/// The most keys that a sentence names.
const NAMED: usize = 5;

/// The most bytes that are hashed once for each of their signatures.
const SMALL: usize = 1 << 20;

/// Judges every detached signature of one block over `bytes`.
pub(crate) fn detached(judge: &Judge<'_>, moment: &Moment, block: &[u8], bytes: &[u8]) -> Vec<SignatureSeen> {
    if let Some(seen) = plainly_good(judge, moment, block, bytes) {
        return seen;
    }
    with_exceptions(judge, |policy| {
        let collector = Collector::new(judge, moment, policy);
        let found = DetachedVerifierBuilder::from_bytes(block)
            .and_then(|b| b.with_policy(policy, moment.at, collector))
            .and_then(|mut verifier| verifier.verify_bytes(bytes).map(|()| verifier.into_helper().found));
        found.map_err(|e| e.to_string())
    })
    .unwrap_or_else(|e| vec![unreadable(moment, &e)])
}

/// Judges clearsigned text. Returns exactly the signed text, and every signature.
pub(crate) fn clearsigned(
    judge: &Judge<'_>,
    moment: &Moment,
    block: &[u8],
    limit: u64,
) -> Result<(Vec<u8>, Vec<SignatureSeen>), String> {
    let mut text = Vec::new();
    let seen = with_exceptions(judge, |policy| {
        text.clear();
        let collector = Collector::new(judge, moment, policy);
        let verifier = VerifierBuilder::from_bytes(block);
        let mut verifier =
            verifier.and_then(|b| b.with_policy(policy, moment.at, collector)).map_err(|e| e.to_string())?;
        // The signatures come after the text, so they are known only once all of it was read.
        verifier.by_ref().take(limit).read_to_end(&mut text).map_err(|e| e.to_string())?;
        if text.len() as u64 == limit {
            return Err(format!("it is larger than {limit} bytes"));
        }
        Ok(verifier.into_helper().found)
    })?;
    Ok((text, seen))
}

/// The short way for the usual case: every signature of the block matches, and its key is good at the moment of
/// judgement. It makes the same demands as [`Collector::judged_by_moment`]. In any doubt it returns `None`; then the
/// long way decides and gives a reason.
fn plainly_good(
    judge: &Judge<'_>,
    moment: &Moment,
    block: &[u8],
    bytes: &[u8],
) -> Option<Vec<SignatureSeen>> {
    if bytes.len() > SMALL {
        return None;
    }
    let standard = StandardPolicy::new();
    let mut collector = Collector::new(judge, moment, &standard);
    // Read packet by packet, and never into one: anything but a signature, above all a container of more packets, is
    // not even unpacked.
    let mut next = PacketParser::from_bytes(block).ok()?;
    while let PacketParserResult::Some(parser) = next {
        let Packet::Signature(sig) = &parser.packet else { return None };
        let sig = sig.clone();
        next = parser.next().ok()?.1;
        let sig = &sig;
        let issuers = sig.get_issuers();
        let cert = judge.certificates.named(&issuers)?;
        let key = cert.keys().find(|ka| issuers.iter().any(|h| h.aliases(ka.key().key_handle())))?;
        let signer = key.key().fingerprint();
        if sig.typ() != SignatureType::Binary || !matches!(collector.standing(cert, &signer), Verdict::Good) {
            return None;
        }
        sig.signature_alive(moment.at, None).ok()?;
        sig.verify_message(key.key(), bytes).ok()?;
        standard.signature(sig, HashAlgoSecurity::default()).ok()?;
        let verdict = collector.judged(sig, cert, &signer);
        collector.add(Some(sig), Some(cert), verdict);
    }
    (!collector.found.is_empty()).then(|| collector.found.into_iter().map(|f| f.seen).collect())
}

fn unreadable(moment: &Moment, why: &str) -> SignatureSeen {
    let verdict = Verdict::Bad(format!("it cannot be read: {why}"));
    moment.seen("unknown issuer".to_owned(), None, None, "openpgp".to_owned(), verdict)
}

/// Judges by sequoia's standard policy. A signature that is too weak for it is judged once more if the house's policy
/// makes an exception for that very certificate.
fn with_exceptions(
    judge: &Judge<'_>,
    mut run: impl FnMut(&StandardPolicy<'_>) -> Result<Vec<SequoiaVerdict>, String>,
) -> Result<Vec<SignatureSeen>, String> {
    let mut found = run(&StandardPolicy::new())?;
    let now = jiff::Timestamp::try_from(judge.now()).unwrap_or(jiff::Timestamp::MAX);
    for at in 0..found.len() {
        let SequoiaVerdict { seen: SignatureSeen { verdict: Verdict::Weak(_), .. }, signer: Some(signer) } =
            &found[at]
        else {
            continue;
        };
        let id = KeyId::OpenPgp(signer.clone());
        let mut relaxed = StandardPolicy::new();
        let mut any = false;
        for exception in judge.policy.exceptions(&id, now) {
            relaxed.accept_hash(exception.hash);
            any = true;
        }
        if any {
            found.splice(at..=at, run(&relaxed)?.into_iter().skip(at).take(1));
        }
    }
    Ok(found.into_iter().map(|f| f.seen).collect())
}

struct Collector<'a> {
    judge: &'a Judge<'a>,
    moment: &'a Moment,
    policy: &'a StandardPolicy<'a>,
    found: Vec<SequoiaVerdict>,
}

impl<'a> Collector<'a> {
    fn new(judge: &'a Judge<'a>, moment: &'a Moment, policy: &'a StandardPolicy<'a>) -> Self {
        Self { judge, moment, policy, found: Vec::new() }
    }

    fn add(&mut self, sig: Option<&Signature>, cert: Option<&Cert>, verdict: Verdict) {
        let issuer = || sig.and_then(|s| s.get_issuers().first().map(|handle| format!("{handle:X}")));
        let signer = cert.map(Cert::fingerprint);
        let pin = signer.clone().and_then(|f| self.judge.policy.pin(&KeyId::OpenPgp(f)));
        // A certificate that is here, but that the policy does not pin, does not count.
        let (key, pin, verdict) = match (&signer, pin) {
            (Some(signer), Some(pin)) => (format!("{signer:X}"), Some(pin), verdict),
            (Some(signer), None) => (format!("{signer:X}"), None, Verdict::UnknownKey),
            (None, _) => {
                let verdict = if verdict == Verdict::UnknownKey { self.unknown() } else { verdict };
                let stranger = || (issuer().unwrap_or_else(|| "unknown issuer".to_owned()), None, verdict);
                let missing = sig.and_then(|s| self.missing(s));
                missing.map_or_else(stranger, |p| (p.id.to_string(), Some(p), Verdict::CertificateMissing))
            }
        };
        let algorithm =
            sig.map_or_else(|| "unknown".to_owned(), |s| format!("{} {}", s.pk_algo(), s.hash_algo()));
        let made = sig.and_then(|s| s.signature_creation_time());
        let seen = self.moment.seen(key, pin, made, algorithm, verdict);
        self.found.push(SequoiaVerdict { seen, signer });
    }

    /// The pinned key that a signature names as its issuer, if its certificate is missing. A key id proves nothing, but
    /// it says whose certificate is needed.
    fn missing(&self, sig: &Signature) -> Option<&'a Pin> {
        let missing = self.judge.certificates.missing(self.judge.policy);
        sig.get_issuers().into_iter().find_map(|handle| {
            missing.iter().copied().find(|pin| match (&pin.id, &handle) {
                (KeyId::OpenPgp(pinned), KeyHandle::Fingerprint(issuer)) => pinned == issuer,
                (KeyId::OpenPgp(pinned), KeyHandle::KeyID(issuer)) => KeyID::from(pinned) == *issuer,
                (KeyId::Ssh(_), _) => false,
            })
        })
    }

    /// The verdict on a key that no certificate here has: it is a stranger's, or a subkey of a certificate that is
    /// missing.
    fn unknown(&self) -> Verdict {
        let missing = self.judge.certificates.missing(self.judge.policy);
        let names: Vec<&str> = missing.iter().take(NAMED).map(|pin| pin.name.as_str()).collect();
        let more = missing.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        match names.as_slice() {
            [] => Verdict::UnknownKey,
            [name] => Verdict::Unidentified(format!("the certificate of {name} is missing, and may have it")),
            names => Verdict::Unidentified(format!(
                "the certificates of {}{more} are missing, and one may have it",
                names.join(", ")
            )),
        }
    }

    /// sequoia judges a key for the time that the signature claims, and the holder of an expired or retired key can
    /// choose that time. So the certificate and the key must also be alive and not revoked at the moment of judgement.
    fn standing(&self, cert: &Cert, signer: &Fingerprint) -> Verdict {
        let key = (signer.clone(), self.moment.at);
        let found = &self.judge.standings.found;
        if let Some(known) = found.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return known.clone();
        }
        let policy = policy_for(self.judge, cert, signer, self.policy);
        let standing = standing(cert, signer, &policy, self.moment.at);
        // The standard policy is always the first to get here, so the kept verdict is its own: an exception for weak
        // hashes holds for signatures over files, not for a certificate's self-signatures.
        found.lock().unwrap_or_else(PoisonError::into_inner).insert(key, standing.clone());
        standing
    }

    /// The verdict on a signature that matches, by a key that was good at the time that the signature claims.
    fn judged(&self, sig: &Signature, cert: &Cert, signer: &Fingerprint) -> Verdict {
        let pin = self.judge.policy.pin(&KeyId::OpenPgp(cert.fingerprint()));
        let range = pin.and_then(|pin| self.moment.within(pin, sig.signature_creation_time()));
        match (self.standing(cert, signer), range) {
            // Made when it was not pinned: a later expiry does not mend that.
            (Verdict::ExpiredSince(_), Some(outside @ Verdict::BadKey(_)))
            | (Verdict::Good, Some(outside)) => outside,
            (standing, _) => standing,
        }
    }

    /// The verdict on a signature whose certificate, as it is here, was not valid when the signature was made: exports
    /// drop old self-signatures, and a key that was renewed late was expired in between. The moment of judgement
    /// counts, so the signature is good if it matches and its key is good at that moment. If the key has expired since,
    /// the signature must claim a time within the key's life. `None` if it is not good.
    fn judged_by_moment(&self, sig: &Signature, cert: &Cert) -> Option<Verdict> {
        let issuers = sig.get_issuers();
        let key = cert.keys().find(|ka| issuers.iter().any(|h| h.aliases(ka.key().key_handle())))?;
        match self.standing(cert, &key.key().fingerprint()) {
            Verdict::Good => {}
            Verdict::ExpiredSince(_) if self.in_life(sig, cert, &key.key().fingerprint()) => {}
            _ => return None,
        }
        sig.signature_alive(self.moment.at, None).ok()?;
        // The verifier that found this signature has computed the digest of the signed bytes.
        sig.verify_document(key.key()).ok()?;
        self.policy.signature(sig, HashAlgoSecurity::default()).ok()?;
        Some(self.judged(sig, cert, &key.key().fingerprint()))
    }
}

impl Collector<'_> {
    /// Whether a signature claims a time at which its key existed and had not expired, by the expiry in the certificate
    /// now.
    fn in_life(&self, sig: &Signature, cert: &Cert, signer: &Fingerprint) -> bool {
        let policy = policy_for(self.judge, cert, signer, self.policy);
        let Some(made) = sig.signature_creation_time() else { return false };
        let Ok(valid) = cert.with_policy(&policy, self.moment.at) else { return false };
        let Some(key) = valid.keys().find(|ka| ka.key().fingerprint() == *signer) else { return false };
        let ends = [valid.primary_key().key_expiration_time(), key.key_expiration_time()];
        let begins = cert.primary_key().key().creation_time().max(key.key().creation_time());
        begins <= made && ends.into_iter().flatten().all(|end| made < end)
    }

    /// The verdict if a fault in the certificate keeps this program from judging any signature by its key.
    fn unusable(&self, sig: &Signature, cert: &Cert) -> Option<Verdict> {
        let issuers = sig.get_issuers();
        let key = cert.keys().find(|ka| issuers.iter().any(|h| h.aliases(ka.key().key_handle())))?;
        if let Some(why) = usable::unknown_algorithm(cert, &key.key().fingerprint()) {
            return Some(Verdict::BadKey(format!("its certificate cannot be judged: {why}")));
        }
        cert.with_policy(&StandardPolicy::new(), self.moment.at)
            .is_err()
            .then(|| usable::only_weak(cert))
            .flatten()
    }
}

impl VerificationHelper for Collector<'_> {
    fn get_certs(&mut self, ids: &[KeyHandle]) -> openpgp::Result<Vec<Cert>> {
        Ok(self.judge.certificates.named_by(ids))
    }

    /// Never fails: one broken signature must not hide a good one. The quorum is counted afterwards.
    fn check(&mut self, structure: MessageStructure<'_>) -> openpgp::Result<()> {
        for layer in structure {
            let MessageLayer::SignatureGroup { results } = layer else { continue };
            for result in results {
                use VerificationError as E;
                match result {
                    Ok(good) => {
                        let verdict = self.judged(good.sig, good.ka.cert(), &good.ka.key().fingerprint());
                        self.add(Some(good.sig), Some(good.ka.cert()), verdict);
                    }
                    Err(E::MissingKey { sig }) => {
                        // Nobody could trust so weak a signature, whoever made it: that says more than "unknown key".
                        let strength = self.policy.signature(sig, HashAlgoSecurity::default());
                        let weak = strength.err().map(|e| explain(&e, |_| Verdict::UnknownKey));
                        self.add(Some(sig), None, weak.unwrap_or(Verdict::UnknownKey));
                    }
                    Err(E::UnboundKey { sig, cert, error }) => {
                        let verdict = self.judged_by_moment(sig, cert).or_else(|| self.unusable(sig, cert));
                        let verdict = verdict.unwrap_or_else(|| explain(&error, Verdict::BadKey));
                        self.add(Some(sig), Some(cert), verdict);
                    }
                    Err(E::BadKey { sig, ka, error }) => {
                        let status = ka.cert().revocation_status(self.policy, self.moment.at);
                        let verdict = self
                            .judged_by_moment(sig, ka.cert())
                            .or_else(|| revoked(&status, "its certificate"))
                            .or_else(|| revoked(&ka.revocation_status(), "the subkey that signed"))
                            .or_else(|| self.unusable(sig, ka.cert()))
                            .unwrap_or_else(|| explain(&error, Verdict::BadKey));
                        self.add(Some(sig), Some(ka.cert()), verdict);
                    }
                    Err(E::BadSignature { sig, ka, error }) => {
                        // A key that cannot be used here says nothing against the signed bytes.
                        let unknown = usable::unknown_algorithm(ka.cert(), &ka.key().fingerprint());
                        let verdict = match unknown {
                            Some(why) => Verdict::BadKey(format!("its certificate cannot be judged: {why}")),
                            None => explain(&error, Verdict::Bad),
                        };
                        self.add(Some(sig), Some(ka.cert()), verdict);
                    }
                    Err(E::MalformedSignature { sig, error }) => {
                        self.add(Some(sig), None, explain(&error, Verdict::Bad));
                    }
                    Err(E::UnknownSignature { sig }) => {
                        self.add(None, None, Verdict::Bad(sig.error().to_string()));
                    }
                    // The enum may grow; any other failure is not a good signature.
                    Err(other) => self.add(None, None, Verdict::Bad(other.to_string())),
                }
            }
        }
        Ok(())
    }
}
