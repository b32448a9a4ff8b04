//! Moves many refs at once. git writes a file for each ref, under a lock for each; this writes all refs into one file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use git2::Oid;

use super::GitMirror;
use super::program::{Git, RefUpdate, lines};
use crate::MirrorError;

/// Up to this many refs are moved by git, one by one.
const MANY: usize = 100;
/// git's lock: the new `packed-refs` before it is renamed. Whoever creates it may write the refs (git-pack-refs(1)).
const LOCK: &str = "packed-refs.lock";

impl GitMirror {
    /// Moves refs, all of them or none; the last of two updates of one ref counts. The caller holds the project's lock.
    pub(super) fn move_refs(&self, git: &Git<'_>, updates: &[RefUpdate]) -> Result<(), MirrorError> {
        if updates.len() > MANY && self.rewrite(git, updates)? {
            return Ok(());
        }
        git.update_refs(&self.path, updates)
    }

    /// Writes all refs, after these updates, as one file. Returns `false` and does nothing if that is impossible; git
    /// then reports why, or does it in its own way.
    fn rewrite(&self, git: &Git<'_>, updates: &[RefUpdate]) -> Result<bool, MirrorError> {
        if has_file_below(&self.path.join("refs"))? {
            git.here("pack-refs", &self.path, &["--all".as_ref()], None)?;
        }
        // A ref with a file of its own would hide its line in the packed file.
        if has_file_below(&self.path.join("refs"))? {
            return Ok(false);
        }
        let path = self.path.join(LOCK);
        let Ok(mut file) = OpenOptions::new().write(true).create_new(true).open(&path) else {
            return Ok(false);
        };
        // From here on, this function must remove the lock.
        let written = self.moved(updates).and_then(|refs| match refs {
            None => Ok(false),
            Some(refs) => {
                let text = text(&refs);
                file.write_all(text.as_bytes())
                    .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
                    .and_then(|()| file.sync_all())
                    .and_then(|()| fs::rename(&path, self.path.join("packed-refs")))
                    .map_err(MirrorError::io(&path))?;
                Ok(true)
            }
        });
        if !matches!(written, Ok(true)) {
            let _ = fs::remove_file(&path);
        }
        if written? {
            File::open(&self.path)
                .and_then(|folder| folder.sync_all())
                .map_err(MirrorError::io(&self.path))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// All refs after these updates; `None` if one of the updates is impossible.
    fn moved(&self, updates: &[RefUpdate]) -> Result<Option<BTreeMap<String, Oid>>, MirrorError> {
        let mut refs = self.targets("refs/")?;
        let updates: BTreeMap<&str, &RefUpdate> = updates.iter().map(|u| (u.name.as_str(), u)).collect();
        for RefUpdate { name, old, .. } in updates.values() {
            let now = refs.get(name).copied().unwrap_or(Oid::ZERO_SHA1);
            if old.is_some_and(|old| old != now) {
                return Ok(None);
            }
        }
        for RefUpdate { name, new, .. } in updates.values() {
            if new.is_zero() {
                refs.remove(name);
            } else if self.holds(*new)? {
                refs.insert(name.clone(), *new);
            } else {
                return Ok(None);
            }
        }
        // A ref cannot also be a folder of refs.
        let folder = |(name, _): (&str, &&RefUpdate)| {
            let below = format!("{name}/");
            let above = name.match_indices('/').any(|(at, _)| refs.contains_key(&name[..at]));
            above || refs.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below))
        };
        let made = updates.iter().filter(|(name, _)| refs.contains_key(**name));
        let fits = !made.into_iter().any(|(name, update)| folder((name, update)));
        Ok(fits.then_some(refs))
    }
}

/// Writes all refs of a repository that has none yet, at once.
pub(super) fn write_packed(path: &Path, refs: &BTreeMap<String, Oid>) -> Result<(), MirrorError> {
    Ok(hab_file::replace_with(&path.join("packed-refs"), 0o644, text(refs).as_bytes())?)
}

/// The text of a packed-refs file. Its header does not claim "peeled", so git peels tags itself.
fn text(refs: &BTreeMap<String, Oid>) -> String {
    let header = "# pack-refs with: sorted ".to_owned();
    lines(std::iter::once(header).chain(refs.iter().map(|(name, id)| format!("{id} {name}"))))
}

/// Whether there is a file anywhere below a folder.
pub(super) fn has_file_below(folder: &Path) -> Result<bool, MirrorError> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).map_err(MirrorError::io(&folder))? {
            let entry = entry.map_err(MirrorError::io(&folder))?;
            if !entry.file_type().map_err(MirrorError::io(entry.path()))?.is_dir() {
                return Ok(true);
            }
            waiting.push(entry.path());
        }
    }
    Ok(false)
}
