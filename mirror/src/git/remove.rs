//! Removes a project's mirror. Its journal is evidence and stays.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use git2::Repository;

use super::quarantine;
use super::upkeep::size_below;
use super::{GitMirror, is_project_name};
use crate::{MirrorError, Observer};

/// What a removal removes, and what it keeps.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Removal {
    /// The project.
    pub project: String,
    /// The bytes of its own folder; a fork's objects are in another project's folder, and stay.
    pub bytes: u64,
    /// The number of branches and tags that are lost.
    pub refs: usize,
    /// The number of values lost that upstream took back or changed: perhaps no other copy exists.
    pub history: usize,
    /// The frozen refs.
    pub frozen: Vec<String>,
    /// Projects whose objects are stored in it: they must be removed first.
    pub forks: Vec<String>,
    /// Where its journal is, after the removal.
    pub journal: Option<PathBuf>,
}

impl GitMirror {
    /// What removing this mirror would lose. If the journal cannot be read, no frozen refs are reported.
    pub fn removal(&self) -> Result<Removal, MirrorError> {
        let frozen = self.journal().map(|j| j.frozen().into_iter().map(str::to_owned).collect());
        Ok(Removal {
            project: self.project.clone(),
            bytes: size_below(&self.path),
            refs: self.refs()?.len(),
            history: self.targets("refs/history/")?.len(),
            frozen: frozen.unwrap_or_default(),
            forks: self.forks()?,
            journal: None,
        })
    }

    /// The projects whose objects are stored here.
    fn forks(&self) -> Result<Vec<String>, MirrorError> {
        let own = fs::canonicalize(self.path.join("objects")).map_err(MirrorError::io(&self.path))?;
        if own != self.objects {
            return Ok(Vec::new());
        }
        let name = |repository: &Repository| {
            let stem = repository.path().file_stem()?.to_str()?.to_owned();
            (is_project_name(&stem) && stem != self.project).then_some(stem)
        };
        Ok(self.sharers()?.iter().filter_map(name).collect())
    }

    /// The file of this mirror's journal.
    pub fn journal_path(&self) -> PathBuf {
        self.path.with_extension("journal")
    }

    /// Removes the mirror and its verified `view`; moves its journal, if there is one, to `kept`. If the process is
    /// killed in between, it leaves a folder that a sweep removes.
    pub fn remove(self, view: &Path, kept: &Path, observer: &dyn Observer) -> Result<(), MirrorError> {
        let _alone = self.lock(observer)?;
        let (doomed, journal) = (removed(&self.path), self.journal_path());
        hab_tree::remove(&doomed).map_err(MirrorError::io(&doomed))?;
        // From here on, others find no mirror, or one that is begun anew.
        fs::rename(&self.path, &doomed).map_err(MirrorError::io(&self.path))?;
        if journal.exists() {
            fs::rename(&journal, kept).map_err(MirrorError::io(kept))?;
        }
        let folder = self.path.parent().unwrap_or(&self.path);
        File::open(folder).and_then(|f| f.sync_all()).map_err(MirrorError::io(folder))?;
        quarantine::clear(&self.quarantine())?;
        for path in [self.path.with_extension("state"), view.to_owned(), doomed] {
            hab_tree::remove(&path).map_err(MirrorError::io(&path))?;
        }
        Ok(())
    }

    /// Removes a mirror that never had anything: no ref, and no entry in its journal.
    pub fn remove_empty(self, observer: &dyn Observer) -> Result<(), MirrorError> {
        if !self.targets("refs/")?.is_empty() || !self.journal()?.entries().is_empty() {
            return Ok(());
        }
        let _alone = self.lock(observer)?;
        quarantine::clear(&self.quarantine())?;
        // The lock file stays: another process may wait for it.
        for extension in ["git", "state", "journal"] {
            let path = self.path.with_extension(extension);
            hab_tree::remove(&path).map_err(MirrorError::io(&path))?;
        }
        Ok(())
    }
}

/// The repository's path while it is being removed.
fn removed(path: &Path) -> PathBuf {
    path.with_extension("removed")
}
