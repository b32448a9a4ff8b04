//! Writes views: repositories without objects of their own that show some of a mirror's refs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::symlink;
use std::path::Path;

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};

use super::packed::write_packed;
use super::{ALTERNATES, GRAPH, GitMirror};
use crate::MirrorError;

/// The file that says why a repository has nothing to check out.
const NOTE: &str = "clone-note";
/// The most bytes of that file that are read.
const NOTE_LIMIT: u64 = 16 << 10;

impl GitMirror {
    /// The branches and tags here, and the objects that they name.
    pub fn refs(&self) -> Result<BTreeMap<String, String>, MirrorError> {
        let mut refs = self.targets("refs/")?;
        refs.retain(|name, _| !name.starts_with("refs/history/"));
        Ok(refs.into_iter().map(|(name, id)| (name, id.to_string())).collect())
    }

    /// Makes the repository at `path` show exactly `refs`, all at once. Its HEAD names the mirror's branch if that is
    /// shown, or else the only branch, if there is just one. If HEAD then names no branch that is shown, a clone gets
    /// `why` as a message.
    pub fn show(&self, path: &Path, refs: &BTreeMap<String, String>, why: &str) -> Result<(), MirrorError> {
        let broken = |source| MirrorError::Repository { path: path.to_owned(), source };
        if !path.join("HEAD").exists() {
            Repository::init_bare(path).map_err(broken)?;
            symlink(self.path.join(GRAPH), path.join(GRAPH)).map_err(MirrorError::io(path.join(GRAPH)))?;
        }
        let alternates = path.join(ALTERNATES);
        let objects = format!("{}\n", self.objects.display());
        fs::write(&alternates, objects).map_err(MirrorError::io(&alternates))?;
        let parse = |(name, id): (&String, &String)| Some((name.clone(), Oid::from_str(id).ok()?));
        let held = |(_, id): &(String, Oid)| self.holds(*id).unwrap_or(false);
        let refs: BTreeMap<String, Oid> = refs.iter().filter_map(parse).filter(held).collect();
        write_packed(path, &refs)?;
        let ours =
            fs::read_to_string(self.path.join("HEAD")).map_err(MirrorError::io(self.path.join("HEAD")))?;
        let ours = ours.trim().trim_start_matches("ref: ").to_owned();
        let mut branches = refs.keys().filter(|name| name.starts_with("refs/heads/"));
        let only = branches.next().filter(|_| branches.next().is_none());
        let head = only.filter(|_| !refs.contains_key(&ours)).unwrap_or(&ours);
        hab_file::replace_unsynced(&path.join("HEAD"), 0o600, format!("ref: {head}\n").as_bytes())?;
        let note = Note { empty: refs.is_empty(), text: why.to_owned() };
        tell_clones(path, Some(&note).filter(|_| !refs.contains_key(head)))
    }
}

/// Sets or removes the message for clients that clone the repository at `path`.
pub(super) fn tell_clones(path: &Path, note: Option<&Note>) -> Result<(), MirrorError> {
    match note {
        // Serialising fails only for maps whose keys are not strings.
        Some(note) => Ok(hab_file::replace_unsynced(
            &path.join(NOTE),
            0o600,
            &serde_json::to_vec(note).unwrap_or_default(),
        )?),
        None => match fs::remove_file(path.join(NOTE)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(MirrorError::io(path.join(NOTE))(e)),
            _ => Ok(()),
        },
    }
}

/// The message for clients that clone a mirror or a view with nothing to check out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whether the repository shows no ref at all.
    pub empty: bool,
    /// The reason, in one sentence.
    pub text: String,
}

/// The note of the repository at `path`, if there is one.
pub fn note(path: &Path) -> Option<Note> {
    let mut text = Vec::new();
    File::open(path.join(NOTE)).ok()?.take(NOTE_LIMIT).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
