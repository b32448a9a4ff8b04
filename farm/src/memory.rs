//! What this farm remembers of signatures: when each was first seen, and when a key last signed something new.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hab_keys::{Certificates, FirstSeen, Judge, KeyId, Policy, SignatureSeen, Verdict};
use hab_oci::Digest;
use hab_store::Mirrored;

use super::keyring::wanting;
use super::{Farm, FarmError, open};

/// Under which kind the catalog remembers when a signature was first seen.
const SIGNATURE: &str = "signature";
/// Under which kind the catalog remembers what a key signed.
const SIGNED_BY: &str = "signed-by";

impl FirstSeen for Farm {
    fn first_seen(&self, signature: &Digest) -> Option<SystemTime> {
        // A catalog that does not answer must not stop a judgement: it is then made as of now, which is stricter.
        self.history(SIGNATURE, &signature.to_string()).ok()?.first().map(|first| time(first.first_seen))
    }
}

impl Farm {
    /// A judge who remembers what this farm has seen.
    pub(super) fn judge<'a>(&'a self, policy: &'a Policy, certificates: &'a Certificates) -> Judge<'a> {
        Judge::new(policy, certificates, SystemTime::now()).remembering(self)
    }

    /// The certificates of the keys that `policy` pins: from `more`, the operator's places, the data folder and the
    /// keyrings of the host; those that are missing from there are looked for.
    pub(super) fn certificates(&self, policy: &Policy, more: &[PathBuf]) -> Result<Certificates, FarmError> {
        let places = self.places(more);
        let mut certificates = Certificates::pinned(policy, &places)?;
        if !wanting(policy, &certificates).is_empty() {
            self.find_missing(policy, &mut certificates)?;
        }
        certificates.some_of(policy, &places)?;
        Ok(certificates)
    }

    /// Where certificates are searched.
    pub(super) fn places(&self, more: &[PathBuf]) -> Vec<PathBuf> {
        let config = &self.options.config;
        let kept = [self.certificate_folder()];
        more.iter().chain(&config.certificates).chain(&kept).chain(&config.debian.keyrings).cloned().collect()
    }

    /// Where imported certificates are kept.
    pub(super) fn certificate_folder(&self) -> PathBuf {
        self.options.data.join("certificates")
    }

    /// Remembers that these signatures were good now, unless they were before. One that is not good is not remembered: that
    /// its certificate was missing or its key expired at first must not be held against it later.
    pub(super) fn saw(&self, signatures: &[SignatureSeen]) -> Result<(), FarmError> {
        let catalog = &self.store.catalog;
        for seen in signatures.iter().filter(|s| s.verdict == Verdict::Good) {
            let name = seen.digest.to_string();
            let remembered = catalog.remember(SIGNATURE, &name, &seen.digest, 0, open::now());
            if self.runtime.block_on(remembered)? {
                let signed = catalog.remember(SIGNED_BY, &seen.key, &seen.digest, 0, open::now());
                self.runtime.block_on(signed)?;
            }
        }
        Ok(())
    }

    /// When a key was last seen signing something new.
    pub(super) fn last_signed(&self, key: &KeyId) -> Result<Option<SystemTime>, FarmError> {
        Ok(self.history(SIGNED_BY, &key.to_string())?.last().map(|last| time(last.first_seen)))
    }

    fn history(&self, kind: &str, name: &str) -> Result<Vec<Mirrored>, hab_store::Error> {
        self.runtime.block_on(self.store.catalog.history(kind, name))
    }
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
