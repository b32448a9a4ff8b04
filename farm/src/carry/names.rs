//! Gives names to the imported documents and files that are accepted here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use hab_keys::debian::VerifiedRelease;
use hab_mirror::airgap::{ExportedName, Manifest};
use hab_mirror::crates::LockedCrate;
use hab_mirror::release::{List, release_name};
use hab_mirror::{Keep as _, MirrorError, kinds};
use hab_oci::Digest;

use crate::carry::import::Importer;
use crate::error::FarmError;
use crate::facts::{ACCEPTED_RELEASE, Fact};
use crate::source::releases::{Version, name_files};

/// The largest signed document that is read, in bytes. An InRelease has 0.2 MB, and a list of hashes has less.
const DOCUMENT: u64 = 32 << 20;

impl Importer<'_> {
    /// Takes the names that count here. An InRelease counts if its policy here accepts it. A line of a crates index
    /// counts if a lock here names its version; it must still match that lock's checksum.
    pub fn import_names(
        &self,
        manifest: &Manifest,
        crates: &BTreeSet<LockedCrate>,
    ) -> Result<usize, FarmError> {
        let locked: BTreeSet<String> =
            self.packages.crates_of_recipes()?.iter().chain(crates).map(LockedCrate::line_name).collect();
        let (mut new, mut unjudged) = (0, BTreeSet::new());
        for named in &manifest.names {
            match named.kind.as_str() {
                ACCEPTED_RELEASE => match self.import_release(named)? {
                    Some(accepted) => new += usize::from(accepted),
                    None => drop(unjudged.insert(named.name.as_str())),
                },
                kinds::CRATE_LINE if locked.contains(&named.name) => {
                    let fact = Fact::OfferedCrateLine { line: &named.name };
                    let is_news = self.facts.remember(&fact, &named.digest, named.size)?;
                    new += usize::from(is_news);
                }
                _ => {}
            }
        }
        if !unjudged.is_empty() {
            let shown = unjudged.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            self.progress.note(&format!(
                "the InRelease of {} suites is not judged, because no toolchain or recipe here names them: {shown}{}",
                unjudged.len(),
                if unjudged.len() > 5 { " and others" } else { "" }
            ));
        }
        Ok(new)
    }

    /// Takes releases of known projects whose lists are accepted here, and files that the projects' tables pin.
    pub fn import_releases(&self, manifest: &Manifest) -> Result<(), FarmError> {
        let carried: BTreeMap<&str, &Digest> = manifest
            .names
            .iter()
            .filter(|named| named.kind == kinds::RELEASE_FILE)
            .map(|named| (named.name.as_str(), &named.digest))
            .collect();
        let versions: BTreeSet<(&str, &str)> =
            carried.keys().filter_map(|name| name.rsplit_once('/')?.0.split_once('/')).collect();
        let projects = self.mirrors.projects.all()?;
        for (project, version) in versions {
            let Some(table) = projects.get(project).and_then(|p| p.release.as_ref()) else { continue };
            let document = |name: &str| {
                let name = name.replace("{version}", version);
                let Some(digest) = carried.get(release_name(project, version, &name).as_str()) else {
                    return Ok(None);
                };
                Ok::<_, FarmError>(self.came(digest)?.map(|bytes| (name, bytes)))
            };
            let Some(sums) = document(&table.sums)? else { continue };
            let mut signatures = Vec::new();
            for name in &table.signatures {
                signatures.extend(document(name)?);
            }
            let list = List { sums, signatures };
            let (hashes, _) = self.releases.judge(Version { project, table, version }, &list)?;
            let release = Version { project, table, version };
            self.releases.fetching.with(|fetcher, _| name_files(fetcher, release, &list, &hashes))?;
        }
        for project in projects.iter() {
            for file in &project.files {
                let kept = |source| MirrorError::Keep { what: file.name.clone(), source };
                if self.keep().path(&file.sha256).map_err(kept)?.is_some() {
                    self.releases.sync_file(file)?;
                }
            }
        }
        Ok(())
    }

    /// Judges an InRelease that the exporting farm accepted. It counts if it is newer than the one accepted here.
    /// Returns `None` if nothing here says who must have signed it.
    fn import_release(&self, named: &ExportedName) -> Result<Option<bool>, FarmError> {
        let Some(policy) = self.packages.suites()?.remove(&named.name) else { return Ok(None) };
        let accepted = self.facts.latest(&Fact::AcceptedRelease { suite: &named.name })?;
        if accepted.as_ref() == Some(&named.digest) {
            return Ok(Some(false));
        }
        let suite = self.debian.suite(&named.name)?;
        let bytes = self.came(&named.digest)?.unwrap_or_default();
        let loaded = self.debian.trust.load(&policy, &[])?;
        let judge = self.debian.trust.judge(&loaded);
        let verify = |bytes: &[u8]| VerifiedRelease::verify(bytes, suite.name(), &judge);
        let release = verify(&bytes)?;
        self.packages
            .fetching
            .with(|fetcher, _| self.debian.newer(fetcher, &suite, release, &bytes, verify))?;
        Ok(Some(true))
    }

    /// The bytes of a document that was imported or was here before.
    fn came(&self, digest: &Digest) -> Result<Option<Vec<u8>>, FarmError> {
        let kept = |source| MirrorError::Keep { what: digest.to_string(), source };
        let Some(file) = self.keep().open(digest).map_err(kept)? else { return Ok(None) };
        let size = file.metadata().map_err(FarmError::io(digest.to_string()))?.len();
        if size > DOCUMENT {
            let (digest, limit) = (digest.clone(), DOCUMENT);
            return Err(hab_store::Error::TooLarge { digest, size, limit }.into());
        }
        let mut bytes = Vec::new();
        file.take(DOCUMENT).read_to_end(&mut bytes).map_err(FarmError::io(digest.to_string()))?;
        Ok(Some(bytes))
    }
}
