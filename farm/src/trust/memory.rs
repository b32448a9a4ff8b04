//! What this farm remembers about signatures: when each was first seen, and when a key last signed something new.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hab_keys::{Certificates, FirstSeen, Judge, KeyId, Policy, SignatureSeen, Verdict};
use hab_oci::Digest;
use hab_store::Mirrored;

use crate::error::FarmError;
use crate::facts::{Fact, Facts};

/// The farm's memory of signatures.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    facts: Facts<'a>,
}

impl FirstSeen for Memory<'_> {
    fn first_seen(&self, signature: &Digest) -> Option<SystemTime> {
        // If the catalog does not answer, the judgement goes on as of now, which is stricter.
        self.facts.history(&Fact::Signature(signature)).ok()?.first().map(time)
    }
}

impl<'a> Memory<'a> {
    /// What these facts say about signatures.
    pub fn new(facts: Facts<'a>) -> Self {
        Self { facts }
    }

    /// A judge that remembers what this farm has seen.
    pub fn judge<'b>(&'b self, policy: &'b Policy, certificates: &'b Certificates) -> Judge<'b> {
        Judge::new(policy, certificates, SystemTime::now()).remembering(self)
    }

    /// Remembers the good ones of these signatures as good now, unless they were good before. A bad one is not
    /// remembered, so that a certificate that was missing or a key that had expired at first does not count against it
    /// later.
    pub fn saw(&self, signatures: &[SignatureSeen]) -> Result<(), FarmError> {
        for seen in signatures.iter().filter(|s| s.verdict == Verdict::Good) {
            if self.facts.remember(&Fact::Signature(&seen.digest), &seen.digest, 0)? {
                self.facts.remember(&Fact::SignedBy(&seen.key), &seen.digest, 0)?;
            }
        }
        Ok(())
    }

    /// When this farm last saw a key sign something new.
    pub fn last_signed(&self, key: &KeyId) -> Result<Option<SystemTime>, FarmError> {
        Ok(self.facts.history(&Fact::SignedBy(&key.to_string()))?.last().map(time))
    }
}

fn time(fact: &Mirrored) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(fact.first_seen).unwrap_or(0))
}
