//! Releases whose signed list of hashes a policy accepts, and plain files: mirrored and served.

use hab_keys::{HashList, Question, VerifiedSums};
use hab_mirror::projects::Project;
use hab_mirror::release::{FileTable, List, ReleaseTable, release_name};
use hab_mirror::{Fault, Fetcher, Keep as _, MirrorError, kinds};
use hab_oci::Digest;

use super::decide::By;
use super::{Farm, FarmError};

/// A release that is mirrored.
#[derive(Debug, serde::Serialize)]
pub struct Released {
    /// The project.
    pub project: String,
    /// The version.
    pub version: String,
    /// The document of the decision that accepted its list.
    pub decision: Digest,
    /// What is served of it, the list and its signatures too.
    pub files: Vec<String>,
}

impl Farm {
    /// Mirrors versions of a project, or those that it names itself.
    pub fn sync_releases(&self, project: &str, versions: &[String]) -> Result<Vec<Released>, FarmError> {
        let found = self.project(project)?;
        let none = || FarmError::Usage(format!("project {project} has no [release]"));
        let table = found.release.as_ref().ok_or_else(none)?;
        let versions = if versions.is_empty() { &table.versions } else { versions };
        if versions.is_empty() {
            return Err(FarmError::Usage(format!(
                "say which versions of {project}, or name them in its [release]"
            )));
        }
        versions.iter().map(|version| self.sync_release(project, table, version)).collect()
    }

    /// Mirrors the plain files of a project; returns their names.
    pub fn sync_files(&self, project: &str) -> Result<Vec<String>, FarmError> {
        let files = self.project(project)?.files;
        files.iter().try_for_each(|file| self.sync_file(file))?;
        Ok(files.into_iter().map(|file| file.name).collect())
    }

    /// Mirrors one version: its list of hashes, from the first upstream that has one which the policy accepts, and the files
    /// that the list names. Nothing of a release is served before that.
    pub fn sync_release(
        &self,
        project: &str,
        table: &ReleaseTable,
        version: &str,
    ) -> Result<Released, FarmError> {
        self.progress.stage(&format!("mirror release {version} of {project}"));
        self.fetching(|fetcher, _| {
            let (list, hashes, decision) = self.accepted_list(fetcher, (project, table, version))?;
            let mut wanted = Vec::new();
            for file in hashes.contested().keys().filter(|file| table.wants(file)) {
                self.progress.note(&format!(
                    "{file} stands in the list of {project} {version} with several hashes, so nobody can say which is right: it is \
                     not mirrored"
                ));
            }
            for (file, digest) in hashes.entries().iter().filter(|(file, _)| table.wants(file)) {
                self.unchanged(&release_name(project, version, file), digest)?;
                wanted.push(table.wanted(version, file, digest)?);
            }
            if wanted.is_empty() {
                let refusal = format!("the list of {project} {version} names no file that is mirrored");
                return Err(FarmError::Decided { refusal });
            }
            let failures = fetcher.fetch_each(&wanted)?;
            let files = name_release_files(fetcher, (project, table, version), &list, &hashes)?;
            self.worst(failures)?;
            let (project, version) = (project.to_owned(), version.to_owned());
            Ok(Released { project, version, decision, files })
        })
    }

    /// Mirrors a file that a table pins.
    pub fn sync_file(&self, table: &FileTable) -> Result<(), FarmError> {
        self.progress.stage(&format!("mirror file {}", table.name));
        Ok(self.fetching(|fetcher, _| table.keep(fetcher))?)
    }

    /// The first list that the policy accepts, with the decision about it.
    fn accepted_list(
        &self,
        fetcher: &Fetcher<'_>,
        (project, table, version): (&str, &ReleaseTable, &str),
    ) -> Result<(List, HashList, Digest), FarmError> {
        let (mut refused, mut away) = (None, None);
        for list in table.lists(fetcher, project, version)? {
            match list {
                Ok(list) => match self.judge_list((project, table, version), &list) {
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
            // A table that names no address does not pass its check.
            (None, None) => Err(FarmError::Usage(format!("{project} says nowhere where its releases are"))),
        }
    }

    /// Judges a list by its signatures; accepted or not, it is kept why.
    pub(super) fn judge_list(
        &self,
        (project, table, version): (&str, &ReleaseTable, &str),
        list: &List,
    ) -> Result<(HashList, Digest), FarmError> {
        let policy = self.policy(&table.policy)?;
        let certificates = self.certificates(&policy, &[])?;
        let judge = self.judge(&policy, &certificates);
        let name = release_name(project, version, &list.sums.0);
        let signatures: Vec<_> = list.signatures.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
        let verified = VerifiedSums::verify(&name, &list.sums.1, &signatures, &judge);
        let names = list.signatures.iter().map(|(name, _)| name.clone()).collect();
        let documents = [&list.sums].into_iter().chain(&list.signatures);
        let documents: Vec<_> = documents.map(|(_, bytes)| bytes.clone()).collect();
        let by = By { policy: table.policy.clone(), certificates: Vec::new() };
        let decided = self.decide(&by, Question::Sums { name, signatures: names }, &documents)?;
        Ok((verified?.list().clone(), decided.document))
    }

    /// Mirrors what a project's file names beside its repository and is not here yet: releases and plain files.
    pub fn sync_archives(&self, project: &Project) -> Result<(), FarmError> {
        if let Some(table) = &project.release {
            for version in &table.versions {
                let sums = release_name(&project.name, version, &table.sums.replace("{version}", version));
                let kept = self.keep.latest(kinds::RELEASE_FILE, &sums);
                if kept.map_err(|source| MirrorError::Keep { what: sums.clone(), source })?.is_none() {
                    self.sync_release(&project.name, table, version)?;
                }
            }
        }
        project.files.iter().try_for_each(|file| self.sync_file(file))
    }

    /// A released file does not change. A list that says so is signed as well as the first one, and refused all the same.
    fn unchanged(&self, name: &str, digest: &Digest) -> Result<(), FarmError> {
        let latest = self.keep.latest(kinds::RELEASE_FILE, name);
        let latest = latest.map_err(|source| MirrorError::Keep { what: name.to_owned(), source })?;
        match latest.filter(|latest| latest != digest) {
            Some(latest) => Err(FarmError::Decided {
                refusal: format!(
                    "{name} was {latest} when it was first mirrored, and the signed list now says {digest}; the mirror keeps \
                     the old one"
                ),
            }),
            None => Ok(()),
        }
    }

    /// Of several failures the one that says most, and how many there were.
    pub(super) fn worst(&self, failures: Vec<MirrorError>) -> Result<(), FarmError> {
        if failures.len() > 1 {
            self.progress.note(&format!("{} files could not be mirrored", failures.len()));
        }
        // What was refused says more than who was away.
        failures.into_iter().min_by_key(|e| e.fault() == Fault::Upstream).map_or(Ok(()), |e| Err(e.into()))
    }
}

/// Names what is kept of a release whose list is accepted: the list, its signatures, and the files that it names.
pub(super) fn name_release_files(
    fetcher: &Fetcher<'_>,
    (project, table, version): (&str, &ReleaseTable, &str),
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
