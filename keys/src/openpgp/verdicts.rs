//! Verdicts on keys, and on errors about them.

use std::time::SystemTime;

use sequoia_openpgp as openpgp;

use openpgp::cert::amalgamation::ValidAmalgamation as _;
use openpgp::policy::StandardPolicy;
use openpgp::types::RevocationStatus;
use openpgp::{Cert, Fingerprint};

use crate::{Verdict, usable};

/// The verdict on a key at a moment: whether the key and its certificate are alive and not revoked.
pub(super) fn standing(
    cert: &Cert,
    signer: &Fingerprint,
    policy: &StandardPolicy<'_>,
    at: SystemTime,
) -> Verdict {
    if let Some(why) = usable::unknown_algorithm(cert, signer) {
        return Verdict::BadKey(format!("its certificate cannot be judged: {why}"));
    }
    let valid = match cert.with_policy(policy, at) {
        Ok(valid) => valid,
        Err(e) => {
            return usable::only_weak(cert).unwrap_or_else(|| {
                explain(&e, |why| Verdict::BadKey(format!("its certificate is not valid: {why}")))
            });
        }
    };
    // Revocation before expiry: a key that was revoked must not count as one that merely expired.
    if let Some(verdict) = revoked(&valid.revocation_status(), "its certificate") {
        return verdict;
    }
    let Some(key) = valid.keys().for_signing().find(|ka| ka.key().fingerprint() == *signer) else {
        return Verdict::BadKey("the key that signed may not sign".to_owned());
    };
    if let Some(verdict) = revoked(&key.revocation_status(), "the subkey that signed") {
        return verdict;
    }
    match valid.alive().and_then(|()| key.alive()) {
        Ok(()) => Verdict::Good,
        Err(e) => Verdict::ExpiredSince(root(&e)),
    }
}

/// The verdict if a certificate or key was revoked, with the reason.
pub(super) fn revoked(status: &RevocationStatus<'_>, what: &str) -> Option<Verdict> {
    let RevocationStatus::Revoked(signatures) = status else { return None };
    let reason = signatures.first().and_then(|s| s.reason_for_revocation());
    let reason = reason.map_or_else(
        || "no reason given".to_owned(),
        |(code, text)| {
            let text = String::from_utf8_lossy(text);
            if text.trim().is_empty() { code.to_string() } else { format!("{code}, {:?}", text.trim()) }
        },
    );
    Some(Verdict::Revoked(format!("{what} ({reason})")))
}

/// The verdict for an error: too weak if the policy refused it, and otherwise what `otherwise` makes of its text.
pub(super) fn explain(error: &openpgp::anyhow::Error, otherwise: impl FnOnce(String) -> Verdict) -> Verdict {
    let weak = error
        .chain()
        .any(|e| matches!(e.downcast_ref::<openpgp::Error>(), Some(openpgp::Error::PolicyViolation(..))));
    if weak { Verdict::Weak(words(error)) } else { otherwise(words(error)) }
}

/// An error and its causes, without repetitions.
fn words(error: &openpgp::anyhow::Error) -> String {
    let mut all: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if !all.iter().any(|earlier| earlier.contains(&cause)) {
            all.push(cause);
        }
    }
    all.join(": ")
}

fn root(error: &openpgp::anyhow::Error) -> String {
    error.root_cause().to_string()
}
