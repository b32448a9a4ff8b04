//! Finishes what a killed run left half done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use git2::Oid;

use super::GitMirror;
use super::journal::{Change, Journal, JournalEntry};
use super::program::{Git, RefUpdate};
use super::room::{beside, is_beside, still_there};
use crate::MirrorError;

impl GitMirror {
    /// Finishes what a killed run recorded in the journal but did not do. Then every ref is where the journal says, and
    /// every other value in the journal is kept below `refs/history/`. Returns the refs after that.
    pub(super) fn heal(
        &self,
        git: &Git<'_>,
        journal: &Journal,
    ) -> Result<BTreeMap<String, Oid>, MirrorError> {
        for path in self.locks()? {
            fs::remove_file(&path).map_err(MirrorError::io(&path))?;
        }
        let mut here = self.targets("refs/")?;
        let mut names: BTreeSet<String> = here.keys().cloned().collect();
        let mut asides = Vec::new();
        for (name, id) in still_there(&here, journal) {
            if !is_beside(&here, &name, id) {
                asides.push(beside(&mut names, &name, id));
            }
            asides.push(RefUpdate::remove(&name, id));
            names.remove(&name);
        }
        if !asides.is_empty() {
            self.move_refs(git, &asides)?;
            here = self.targets("refs/")?;
        }
        let mut updates = Vec::new();
        let keep = |names: &mut BTreeSet<String>, reference: &str, id: Oid, updates: &mut Vec<RefUpdate>| {
            if !is_beside(&here, reference, id) && self.holds(id).unwrap_or(false) {
                updates.push(beside(names, reference, id));
            }
        };
        let said = replay(journal.entries());
        for (name, id) in &said {
            let Ok(id) = Oid::from_str(id) else { continue };
            let was = here.get(name).copied();
            if was == Some(id) || !self.holds(id)? {
                continue;
            }
            if self.fits(&names, name, id) {
                names.insert(name.clone());
                if let Some(was) = was {
                    keep(&mut names, name, was, &mut updates);
                }
                updates.push(RefUpdate { name: name.clone(), new: id, old: was.or(Some(Oid::ZERO_SHA1)) });
            }
        }
        for entry in journal.entries() {
            let value = match entry.kind {
                kind if kind.freezes() => &entry.new,
                Change::Restored => &entry.new,
                Change::Accepted | Change::Displaced => &entry.old,
                _ => continue,
            };
            let now = said.get(&entry.reference);
            if let Some(id) = value.as_ref().filter(|id| Some(*id) != now)
                && let Ok(id) = Oid::from_str(id)
            {
                keep(&mut names, &entry.reference, id, &mut updates);
            }
        }
        if updates.is_empty() {
            return Ok(here);
        }
        self.move_refs(git, &updates)?;
        self.targets("refs/")
    }

    /// The lock files that a killed git left. The holder of the project's lock may remove them.
    pub(super) fn locks(&self) -> Result<Vec<PathBuf>, MirrorError> {
        let mut found: Vec<_> =
            ["packed-refs.lock", "packed-refs.new", "HEAD.lock"].map(|name| self.path.join(name)).into();
        found.retain(|path| path.exists());
        let mut waiting = vec![self.path.join("refs")];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(&folder).map_err(MirrorError::io(&folder))?.flatten() {
                let path = entry.path();
                if path.is_dir() {
                    waiting.push(path);
                } else if path.extension().is_some_and(|e| e == "lock") {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }
}

/// The refs at the end of a journal.
pub(super) fn replay(entries: &[JournalEntry]) -> BTreeMap<String, String> {
    let mut refs = BTreeMap::new();
    for entry in entries {
        if let (Change::New | Change::FastForward | Change::Accepted, Some(new)) = (entry.kind, &entry.new) {
            refs.insert(entry.reference.clone(), new.clone());
        } else if entry.kind == Change::Displaced {
            refs.remove(&entry.reference);
        }
    }
    refs
}
