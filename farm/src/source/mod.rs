//! From a recipe's `[source]` to a `VerifiedSource`: the mirror fetches, `hab-keys` judges.

pub mod crates;
pub mod debian;
pub mod depends;
pub mod lock;
pub mod packages;
pub mod releases;
pub mod tags;

use hab_keys::VerifiedSource;
use hab_mirror::{Fetcher, MirrorError};
use hab_recipe::{LockedSource, RecipeName, SourceTable};

use crate::error::FarmError;
use crate::fetching::Fetching;
use crate::progress::Progress;
use crates::Crates;
use debian::Debian;

/// Sources that a lock pins.
#[derive(Clone, Copy)]
pub struct LockedSources<'a> {
    /// Fetches the sources.
    pub fetching: Fetching<'a>,
    /// Debian source packages.
    pub debian: Debian<'a>,
    /// Crates.
    pub crates: Crates<'a>,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl LockedSources<'_> {
    /// Fetches and judges a source that a lock names.
    pub fn verify(
        &self,
        recipe: &RecipeName,
        table: &SourceTable,
        locked: &LockedSource,
    ) -> Result<VerifiedSource, FarmError> {
        let verified = self.fetching.with(|fetcher, _| match table {
            SourceTable::DebianSource { package, suite, policy } => {
                self.verify_debian(fetcher, package, suite, policy, locked)
            }
            SourceTable::Crate { package, .. } => self.verify_crate(fetcher, package, locked),
            SourceTable::Git { project, .. } => {
                Err(FarmError::Usage(format!("{project} is a git source, which a lock cannot name")))
            }
        })?;
        if locked.digest() == verified.digest() {
            return Ok(verified);
        }
        Err(FarmError::NotTheLocked {
            what: format!("{} {}", locked.package, locked.version),
            recipe: recipe.to_string(),
            locked: locked.digest().clone(),
            verified: verified.digest().clone(),
        })
    }

    fn verify_debian(
        &self,
        fetcher: &Fetcher<'_>,
        package: &str,
        suite: &str,
        policy: &str,
        locked: &LockedSource,
    ) -> Result<VerifiedSource, FarmError> {
        self.progress.stage(&format!("verify {package} {}", locked.version));
        let suite = self.debian.suite(suite)?;
        let release = self.debian.release(fetcher, &suite, policy)?;
        let index = debian::index(fetcher, &suite, &release, "main/source/Sources.xz")?;
        let listed = index.source(package, Some(&locked.version))?;
        let dsc = fetcher.read(&suite.pool(&listed.dsc.name, &listed.dsc.digest, listed.dsc.size))?;
        let source = listed.verify(&dsc, locked.epoch)?;
        let files = [&listed.dsc].into_iter().chain(&listed.files);
        suite.keep(fetcher, files.map(|f| (f.name.as_str(), &f.digest, f.size)))?;
        Ok(source)
    }

    fn verify_crate(
        &self,
        fetcher: &Fetcher<'_>,
        package: &str,
        locked: &LockedSource,
    ) -> Result<VerifiedSource, FarmError> {
        self.progress.stage(&format!("verify crate {package} {}", locked.version));
        let index = self.crates.index()?;
        let several = || FarmError::Usage(format!("the lock of crate {package} must name exactly one file"));
        let file = locked.files.only().ok_or_else(several)?;
        let wanted = index.wanted(fetcher, package, &locked.version, &file.digest, file.size)?;
        fetcher.fetch(&wanted)?;
        let mut bytes = fetcher.open(&file.digest)?.ok_or_else(|| MirrorError::Gone { what: wanted.what })?;
        Ok(VerifiedSource::pinned((package, &locked.version), &file.digest, locked.epoch, &mut bytes)?)
    }
}
