//! Taking a project's mirror away. Its journal is evidence and stays.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use git2::Repository;

use super::quarantine;
use super::upkeep::size_below;
use super::{GitMirror, is_project_name};
use crate::{MirrorError, Observer};

/// What goes with a project's mirror, and what stays.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Removal {
    /// The project.
    pub project: String,
    /// How many bytes its own folder takes; a fork's objects lie with another project, and stay there.
    pub bytes: u64,
    /// How many branches and tags go.
    pub refs: usize,
    /// How many values go that upstream took back or changed: nobody else may have them any more.
    pub history: usize,
    /// The refs that wait for a decision.
    pub frozen: Vec<String>,
    /// Projects whose objects lie with it: it cannot go before them.
    pub forks: Vec<String>,
    /// Where its journal is kept, once it is removed.
    pub journal: Option<PathBuf>,
}

impl GitMirror {
    /// What would go with this mirror. A journal that does not read says nothing of what waits.
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

    /// The projects whose objects are kept here.
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

    /// Where this mirror's journal lies.
    pub fn journal_path(&self) -> PathBuf {
        self.path.with_extension("journal")
    }

    /// Takes the mirror away, with its verified `view`; its journal is moved to `kept`, if it has one. A kill in
    /// between leaves a folder that a sweep finds.
    pub fn remove(self, view: &Path, kept: &Path, observer: &dyn Observer) -> Result<(), MirrorError> {
        let _alone = self.lock(observer)?;
        let (doomed, journal) = (removed(&self.path), self.journal_path());
        hab_tree::remove(&doomed).map_err(MirrorError::io(&doomed))?;
        // Whoever looks from here on finds nothing, or what is begun anew.
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

    /// Takes away a mirror that never had anything: no ref, and no entry in its journal.
    pub fn remove_empty(self, observer: &dyn Observer) -> Result<(), MirrorError> {
        if !self.targets("refs/")?.is_empty() || !self.journal()?.entries().is_empty() {
            return Ok(());
        }
        let _alone = self.lock(observer)?;
        quarantine::clear(&self.quarantine())?;
        // Not its lock: somebody may wait for that.
        for extension in ["git", "state", "journal"] {
            let path = self.path.with_extension(extension);
            hab_tree::remove(&path).map_err(MirrorError::io(&path))?;
        }
        Ok(())
    }
}

/// What the repository at `path` is called while it is taken away.
fn removed(path: &Path) -> PathBuf {
    path.with_extension("removed")
}
