//! Debian archives: a suite's signed index, and the packages it lists.

use std::path::Path;

use hab_keys::Refusal;
use hab_keys::debian::{VerifiedIndex, VerifiedRelease};
use hab_keys::precedent::{self, Counts};
use hab_mirror::apt::AptConfig;
use hab_mirror::debian::Suite;
use hab_mirror::{Fault, Fetcher};
use hab_oci::Digest;

use crate::error::FarmError;
use crate::facts::{Fact, Facts};
use crate::progress::Progress;
use crate::trust::Trust;

/// Debian archives, at the addresses that the operator or the host's apt names.
#[derive(Clone, Copy)]
pub struct Debian<'a> {
    /// Judges signatures.
    pub trust: Trust<'a>,
    /// Remembers what was accepted before.
    pub facts: Facts<'a>,
    /// The operator's base addresses. Without any, those of the host's apt.
    pub bases: &'a [String],
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

/// Fetches the Sources or Packages index at `path` of a suite, by the digest in its verified InRelease.
pub fn index(
    fetcher: &Fetcher<'_>,
    suite: &Suite,
    release: &VerifiedRelease,
    path: &str,
) -> Result<VerifiedIndex, FarmError> {
    let named = release.index(path)?;
    let bytes = suite.index(fetcher, path, &named.digest, named.size)?;
    Ok(release.open(path, &bytes)?)
}

impl Debian<'_> {
    /// A Debian suite, at the operator's base addresses or else at those of the host's apt.
    pub fn suite(&self, name: &str) -> Result<Suite, FarmError> {
        let mut bases = self.bases.to_vec();
        if bases.is_empty() {
            bases = AptConfig::load(Path::new("/etc/apt"))?.bases(name);
        }
        Ok(Suite::new(name, bases.iter().map(|b| b.trim_end_matches('/').to_owned()).collect()))
    }

    /// Fetches and judges the suite's InRelease, and takes the first one, by base address, that the policy accepts.
    /// Returns the one that was accepted before if the farm is offline, if no upstream answers, or if the upstream's is
    /// older; never one that was only seen.
    pub fn release(
        &self,
        fetcher: &Fetcher<'_>,
        suite: &Suite,
        policy: &str,
    ) -> Result<VerifiedRelease, FarmError> {
        let loaded = self.trust.load(policy, &[])?;
        let judge = self.trust.judge(&loaded);
        let verify = |bytes: &[u8]| VerifiedRelease::verify(bytes, suite.name(), &judge);
        let (mut refused, mut away) = (None, None);
        for bytes in suite.in_releases(fetcher)? {
            match bytes {
                Ok(bytes) => match verify(&bytes) {
                    Ok(release) => return self.newer(fetcher, suite, release, &bytes, verify),
                    Err(e) => refused = refused.or(Some(e)),
                },
                Err(e) if e.fault() == Fault::Upstream => away = away.or(Some(e)),
                Err(e) => return Err(e.into()),
            }
        }
        match (refused, away) {
            (Some(e), _) => Err(e.into()),
            (None, Some(e)) => {
                let bytes = self.accepted_release(fetcher, suite)?.ok_or(e)?;
                let name = suite.name();
                self.progress.note(&format!("using the InRelease of {name} that was accepted before"));
                Ok(verify(&bytes)?)
            }
            // `in_releases` returns an error for a suite that no upstream carries.
            (None, None) => Err(FarmError::Usage(format!("no upstream carries suite {}", suite.name()))),
        }
    }

    /// Returns and remembers the newer InRelease: upstream's, or the one that was accepted before. An old one is signed
    /// as well as a new one, but lists the packages of its own day.
    pub fn newer(
        &self,
        fetcher: &Fetcher<'_>,
        suite: &Suite,
        release: VerifiedRelease,
        bytes: &[u8],
        verify: impl Fn(&[u8]) -> Result<VerifiedRelease, Refusal>,
    ) -> Result<VerifiedRelease, FarmError> {
        let name = suite.name();
        // An accepted InRelease does not count if its key has expired since.
        let accepted = self.accepted_release(fetcher, suite)?.and_then(|accepted| verify(&accepted).ok());
        let date = |release: &VerifiedRelease| release.date().as_second();
        let counts = precedent::newer(accepted.as_ref().map(date), date(&release));
        if let Some(accepted) = accepted.filter(|_| counts == Counts::Accepted) {
            self.progress.note(&format!(
                "upstream has an InRelease of {name} from {}, older than the one of {} that was accepted before; that \
                 one stays in use",
                release.date(),
                accepted.date()
            ));
            return Ok(accepted);
        }
        let fact = Fact::AcceptedRelease { suite: name };
        self.facts.remember(&fact, &Digest::of(bytes), bytes.len() as u64)?;
        self.trust.memory.saw(release.signatures())?;
        Ok(release)
    }

    /// The InRelease that was accepted last.
    fn accepted_release(&self, fetcher: &Fetcher<'_>, suite: &Suite) -> Result<Option<Vec<u8>>, FarmError> {
        let accepted = self.facts.latest(&Fact::AcceptedRelease { suite: suite.name() })?;
        let Some(digest) = accepted else { return Ok(None) };
        Ok(fetcher.kept_document(suite.name(), &digest)?)
    }
}
