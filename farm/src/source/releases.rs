//! Mirrors and serves releases whose signed list of hashes a policy accepts, and plain files.

use hab_keys::{HashList, Question, VerifiedSums, precedent};
use hab_mirror::projects::Project;
use hab_mirror::release::{FileTable, List, ReleaseTable, release_name};
use hab_mirror::{Fault, Fetcher, kinds};
use hab_oci::Digest;

use crate::error::{FarmError, worst};
use crate::facts::{Fact, Facts};
use crate::fetching::Fetching;
use crate::mirrors::projects::ProjectFiles;
use crate::progress::Progress;
use crate::trust::decide::{By, Decisions};

/// A release that is mirrored.
#[derive(Debug, serde::Serialize)]
pub struct Released {
    /// The project.
    pub project: String,
    /// The version.
    pub version: String,
    /// The document of the decision that accepted its list.
    pub decision: Digest,
    /// The files that are served, with the list and its signatures.
    pub files: Vec<String>,
}

/// Mirrors releases and plain files.
#[derive(Clone, Copy)]
pub struct Releases<'a> {
    /// The known projects.
    pub projects: ProjectFiles<'a>,
    /// Judges the lists of hashes.
    pub decisions: Decisions<'a>,
    /// Fetches files.
    pub fetching: Fetching<'a>,
    /// Remembers what is mirrored.
    pub facts: Facts<'a>,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

/// A version of a project, with the layout of its releases.
#[derive(Clone, Copy)]
pub struct Version<'a> {
    /// The project's name.
    pub project: &'a str,
    /// The project's `[release]` table.
    pub table: &'a ReleaseTable,
    /// The version.
    pub version: &'a str,
}

impl Releases<'_> {
    /// Mirrors these versions of a project; without any, those that its `[release]` names.
    pub fn sync(&self, project: &str, versions: &[String]) -> Result<Vec<Released>, FarmError> {
        let found = self.projects.get(project)?;
        let none = || FarmError::Usage(format!("project {project} has no [release]"));
        let table = found.release.as_ref().ok_or_else(none)?;
        let versions = if versions.is_empty() { &table.versions } else { versions };
        if versions.is_empty() {
            return Err(FarmError::Usage(format!(
                "say which versions of {project}, or name them in its [release]"
            )));
        }
        versions.iter().map(|version| self.sync_version(Version { project, table, version })).collect()
    }

    /// Mirrors the plain files of a project; returns their names.
    pub fn sync_files(&self, project: &str) -> Result<Vec<String>, FarmError> {
        let files = self.projects.get(project)?.files;
        files.iter().try_for_each(|file| self.sync_file(file))?;
        Ok(files.into_iter().map(|file| file.name).collect())
    }

    /// Mirrors one version: its list of hashes, from the first upstream whose list the policy accepts, and then the
    /// files that the list names. Serves nothing of a release before the list is accepted.
    fn sync_version(&self, release: Version<'_>) -> Result<Released, FarmError> {
        let Version { project, table, version } = release;
        self.progress.stage(&format!("mirror release {version} of {project}"));
        self.fetching.with(|fetcher, _| {
            let (list, hashes, decision) = self.accepted_list(fetcher, release)?;
            let mut wanted = Vec::new();
            for file in hashes.contested().keys().filter(|file| table.wants(file)) {
                self.progress.note(&format!(
                    "{file} stands in the list of {project} {version} with several hashes, so nobody can say which is right: it is \
                     not mirrored"
                ));
            }
            for (file, digest) in hashes.entries().iter().filter(|(file, _)| table.wants(file)) {
                let fact = Fact::ReleaseFile { project, version, file };
                precedent::unchanged(&fact.name(), self.facts.latest(&fact)?.as_ref(), digest)?;
                wanted.push(table.wanted(version, file, digest)?);
            }
            if wanted.is_empty() {
                let refusal = format!("the list of {project} {version} names no file that is mirrored");
                return Err(FarmError::Decided { refusal });
            }
            let failures = fetcher.fetch_each(&wanted)?;
            let files = name_files(fetcher, release, &list, &hashes)?;
            worst(failures, self.progress)?;
            let (project, version) = (project.to_owned(), version.to_owned());
            Ok(Released { project, version, decision, files })
        })
    }

    /// Mirrors a file that a table pins.
    pub fn sync_file(&self, table: &FileTable) -> Result<(), FarmError> {
        self.progress.stage(&format!("mirror file {}", table.name));
        Ok(self.fetching.with(|fetcher, _| table.keep(fetcher))?)
    }

    /// The first list that the policy accepts, with the decision about it.
    fn accepted_list(
        &self,
        fetcher: &Fetcher<'_>,
        release: Version<'_>,
    ) -> Result<(List, HashList, Digest), FarmError> {
        let (mut refused, mut away) = (None, None);
        let Version { project, table, version } = release;
        for list in table.lists(fetcher, project, version)? {
            match list {
                Ok(list) => match self.judge(release, &list) {
                    Ok((hashes, decision)) => return Ok((list, hashes, decision)),
                    Err(FarmError::Refused(e)) => refused = refused.or(Some(e)),
                    Err(e) => return Err(e),
                },
                Err(e) if e.fault() == Fault::Upstream => away = away.or(Some(e)),
                Err(e) => return Err(e.into()),
            }
        }
        match (refused, away) {
            (Some(e), _) => Err(e.into()),
            (None, Some(e)) => Err(e.into()),
            // The check of a project file refuses a table without an address.
            (None, None) => Err(FarmError::Usage(format!(
                "the project file of {project} has no address for its releases"
            ))),
        }
    }

    /// Judges a list by its signatures. Keeps the decision, whether it accepts or refuses.
    pub fn judge(&self, release: Version<'_>, list: &List) -> Result<(HashList, Digest), FarmError> {
        let Version { project, table, version } = release;
        let loaded = self.decisions.trust.load(&table.policy, &[])?;
        let judge = self.decisions.trust.judge(&loaded);
        let name = release_name(project, version, &list.sums.0);
        let signatures: Vec<_> = list.signatures.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
        let verified = VerifiedSums::verify(&name, &list.sums.1, &signatures, &judge);
        let names = list.signatures.iter().map(|(name, _)| name.clone()).collect();
        let documents = [&list.sums].into_iter().chain(&list.signatures);
        let documents: Vec<_> = documents.map(|(_, bytes)| bytes.clone()).collect();
        let by = By { policy: table.policy.clone(), certificates: Vec::new() };
        let decided = self.decisions.decide(&by, Question::Sums { name, signatures: names }, &documents)?;
        Ok((verified?.list().clone(), decided.document))
    }

    /// Mirrors the releases and plain files that a project's file names and that are not here yet.
    pub fn sync_project(&self, project: &Project) -> Result<(), FarmError> {
        if let Some(table) = &project.release {
            for version in &table.versions {
                let (project, sums) = (project.name.as_str(), table.sums.replace("{version}", version));
                if self.facts.latest(&Fact::ReleaseFile { project, version, file: &sums })?.is_none() {
                    self.sync_version(Version { project, table, version })?;
                }
            }
        }
        project.files.iter().try_for_each(|file| self.sync_file(file))
    }
}

/// Gives names to the kept files of a release whose list is accepted: the list, its signatures, and the files that it
/// names.
pub fn name_files(
    fetcher: &Fetcher<'_>,
    Version { project, table, version }: Version<'_>,
    list: &List,
    hashes: &HashList,
) -> Result<Vec<String>, FarmError> {
    let mut files = Vec::new();
    for (name, bytes) in [&list.sums].into_iter().chain(&list.signatures) {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        fetcher.name(kinds::RELEASE_FILE, &release_name(project, version, name), &digest, size)?;
        files.push(name.clone());
    }
    for (file, digest) in hashes.entries().iter().filter(|(file, _)| table.wants(file)) {
        if fetcher.open(digest)?.is_some() {
            let (name, size) = (release_name(project, version, file), fetcher.size(digest)?);
            fetcher.name(kinds::RELEASE_FILE, &name, digest, size)?;
            files.push(file.clone());
        }
    }
    Ok(files)
}
