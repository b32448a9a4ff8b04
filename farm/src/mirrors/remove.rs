//! Removes a mirrored project: `hab-build mirror remove`.

use std::fs::{self, File};
use std::path::PathBuf;

use hab_mirror::git::{GitMirror, Journal, Removal, size_below};
use hab_mirror::{Keep as _, MirrorError};
use hab_oci::{few, shown};

use super::Mirrors;
use crate::error::FarmError;
use crate::facts::Fact;
use crate::progress::MirrorView;
use hab_clock::now;

/// The most refs that one sentence names.
const MOST: usize = 20;

impl Mirrors<'_> {
    /// What a removal of the project's mirror would remove.
    pub fn removal(&self, project: &str) -> Result<Removal, FarmError> {
        let removal = self.repositories.get(project)?.removal()?;
        if let Some(fork) = removal.forks.first() {
            let forks = removal.forks.join(", ");
            return Err(FarmError::Usage(format!(
                "{project} cannot be removed yet, because the objects of its forks are kept with its own: {forks}; begin \
                 with `hab-build mirror remove {fork}`"
            )));
        }
        Ok(removal)
    }

    /// Removes a project's mirror. Its journal is evidence, so it is kept in the store, and as a file beside the
    /// mirrors.
    pub fn remove(&self, project: &str) -> Result<Removal, FarmError> {
        let mut removal = self.removal(project)?;
        let mirror = self.repositories.get(project)?;
        let folder = self.repositories.folder()?.join("removed");
        fs::create_dir_all(&folder).map_err(FarmError::io(&folder))?;
        let kept = Self::free_name(&folder, project);
        let journal = mirror.journal_path();
        if let Ok(mut file) = File::open(&journal) {
            let failed = |source| MirrorError::Keep { what: journal.display().to_string(), source };
            let (digest, size) = self.fetching.keep.take(None, &mut file).map_err(failed)?;
            self.facts.remember(&Fact::RemovedJournal { project }, &digest, size)?;
            removal.journal = Some(kept.clone());
        }
        mirror.remove(&self.repositories.view(project), &kept, &MirrorView(self.progress))?;
        Ok(removal)
    }

    /// A file name that no earlier journal has.
    fn free_name(folder: &std::path::Path, project: &str) -> PathBuf {
        let mut at = now();
        loop {
            let path = folder.join(format!("{project}-{at}.journal"));
            if !path.exists() {
                return path;
            }
            at += 1;
        }
    }

    /// The journal that a project had when it was last removed, unless the project is mirrored now.
    pub(super) fn removed_before(&self, project: &str) -> Result<Option<Journal>, FarmError> {
        if self.repositories.has(project) {
            return Ok(None);
        }
        let failed = |source| MirrorError::Keep { what: project.to_owned(), source };
        let Some(digest) = self.facts.latest(&Fact::RemovedJournal { project })? else { return Ok(None) };
        let path = self.fetching.keep.path(&digest).map_err(failed)?;
        // A journal that was unreadable at the removal gives nothing to compare.
        Ok(path.and_then(|path| Journal::open(&path).ok()))
    }

    /// Notes which refs differ from those before the removal, because removing a project must not hide a change.
    pub(super) fn compare_with_removed(&self, mirror: &GitMirror, before: &Journal) -> Result<(), FarmError> {
        let (project, now) = (mirror.project(), mirror.refs()?);
        let mut changed = Vec::new();
        for (name, old) in before.refs() {
            // A branch may have moved on from its old commit; a tag must be the same.
            let kept = if name.starts_with("refs/tags/") {
                now.get(&name) == Some(&old)
            } else {
                mirror.has(&old)?
            };
            if !kept {
                let new = now.get(&name).map_or("gone", String::as_str);
                changed.push(format!("{} was {old} and is {new}", shown(&name)));
            }
        }
        if !changed.is_empty() {
            let said = few(&changed, MOST, "; ");
            self.progress.note(&format!("{project}: refs changed since the project was removed: {said}"));
        }
        Ok(())
    }

    /// Finds what a killed removal left, and removes it unless `dry`.
    pub(super) fn sweep_removed(&self, dry: bool, found: &mut Vec<(PathBuf, u64)>) -> Result<(), FarmError> {
        let git = self.data.git();
        for entry in fs::read_dir(&git).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "removed") && path.is_dir() {
                let size = size_below(&path);
                if !dry {
                    fs::remove_dir_all(&path).map_err(FarmError::io(&path))?;
                }
                found.push((path, size));
            }
        }
        Ok(())
    }
}
