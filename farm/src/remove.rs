//! Taking a mirrored project away: `hab-build mirror remove`.

use std::fs::{self, File};
use std::path::PathBuf;

use hab_mirror::git::{GitMirror, Journal, Removal, size_below};
use hab_mirror::{Keep as _, MirrorError};
use hab_oci::{few, shown};

use super::progress::MirrorView;
use super::{Farm, FarmError, open};

/// Under which kind the catalog remembers the journals of projects that were removed.
const REMOVED: &str = "git-journal-removed";

/// How many refs are named in a sentence.
const MOST: usize = 20;

impl Farm {
    /// What would go with a project's mirror.
    pub fn mirror_removal(&self, project: &str) -> Result<Removal, FarmError> {
        let removal = self.mirrored(project)?.removal()?;
        if let Some(fork) = removal.forks.first() {
            let forks = removal.forks.join(", ");
            return Err(FarmError::Usage(format!(
                "{project} cannot be removed yet, because the objects of its forks are kept with its own: {forks}; begin \
                 with `hab-build mirror remove {fork}`"
            )));
        }
        Ok(removal)
    }

    /// Takes a project's mirror away. Its journal is evidence: it is kept in the store, and as a file beside the mirrors.
    pub fn mirror_remove(&self, project: &str) -> Result<Removal, FarmError> {
        let mut removal = self.mirror_removal(project)?;
        let mirror = self.mirrored(project)?;
        let folder = self.git_folder()?.join("removed");
        fs::create_dir_all(&folder).map_err(FarmError::io(&folder))?;
        let kept = Self::free_name(&folder, project);
        let journal = mirror.journal_path();
        if let Ok(mut file) = File::open(&journal) {
            let failed = |source| MirrorError::Keep { what: journal.display().to_string(), source };
            let (digest, size) = self.keep.take(None, &mut file).map_err(failed)?;
            self.keep.remember(REMOVED, project, &digest, size).map_err(failed)?;
            removal.journal = Some(kept.clone());
        }
        mirror.remove(&self.view_path(project), &kept, &MirrorView(self.progress.as_ref()))?;
        Ok(removal)
    }

    /// A name that no journal has that was kept before.
    fn free_name(folder: &std::path::Path, project: &str) -> PathBuf {
        let mut at = open::now();
        loop {
            let path = folder.join(format!("{project}-{at}.journal"));
            if !path.exists() {
                return path;
            }
            at += 1;
        }
    }

    /// The journal that a project had when it was removed last, where it is not mirrored now.
    pub(super) fn removed_before(&self, project: &str) -> Result<Option<Journal>, FarmError> {
        if self.is_mirrored(project) {
            return Ok(None);
        }
        let failed = |source| MirrorError::Keep { what: project.to_owned(), source };
        let Some(digest) = self.keep.latest(REMOVED, project).map_err(failed)? else { return Ok(None) };
        let path = self.keep.path(&digest).map_err(failed)?;
        // One that did not read when it was removed says nothing that could be compared.
        Ok(path.and_then(|path| Journal::open(&path).ok()))
    }

    /// Says what is another thing now than it was before the project was removed: removing it makes nothing undone.
    pub(super) fn compare_with_removed(&self, mirror: &GitMirror, before: &Journal) -> Result<(), FarmError> {
        let (project, now) = (mirror.project(), mirror.refs()?);
        let mut changed = Vec::new();
        for (name, old) in before.refs() {
            // A branch goes on; a tag stays what it was.
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
            self.progress.note(&format!("{project}: not as it was before it was removed: {said}"));
        }
        Ok(())
    }

    /// What a removal that was killed left.
    pub(super) fn sweep_removed(&self, dry: bool, found: &mut Vec<(PathBuf, u64)>) -> Result<(), FarmError> {
        let git = self.options.data.join("git");
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
