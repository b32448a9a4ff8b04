//! A view: a repository without objects of its own that shows some of a mirror's refs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use git2::{Oid, Repository};

use super::{ALTERNATES, GRAPH, GitMirror};
use crate::MirrorError;

impl GitMirror {
    /// The branches and tags here, and the objects that they name.
    pub fn refs(&self) -> Result<BTreeMap<String, String>, MirrorError> {
        let mut refs = self.targets("refs/")?;
        refs.retain(|name, _| !name.starts_with("refs/history/"));
        Ok(refs.into_iter().map(|(name, id)| (name, id.to_string())).collect())
    }

    /// Makes the repository at `path` show exactly `refs`, all of them at once. HEAD is the mirror's where it is shown.
    pub fn show(&self, path: &Path, refs: &BTreeMap<String, String>) -> Result<(), MirrorError> {
        let broken = |source| MirrorError::Repository { path: path.to_owned(), source };
        if !path.join("HEAD").exists() {
            Repository::init_bare(path).map_err(broken)?;
            symlink(self.path.join(GRAPH), path.join(GRAPH)).map_err(MirrorError::io(path.join(GRAPH)))?;
        }
        let alternates = path.join(ALTERNATES);
        let objects = format!("{}\n", self.objects.display());
        fs::write(&alternates, objects).map_err(MirrorError::io(&alternates))?;
        let mut text = String::from("# pack-refs with: sorted \n");
        for (name, id) in refs {
            if Oid::from_str(id).is_ok_and(|id| self.holds(id).unwrap_or(false)) {
                text.push_str(&format!("{id} {name}\n"));
            }
        }
        let mut file = tempfile::NamedTempFile::new_in(path).map_err(MirrorError::io(path))?;
        file.write_all(text.as_bytes()).map_err(MirrorError::io(path))?;
        file.as_file().sync_all().map_err(MirrorError::io(path))?;
        file.persist(path.join("packed-refs")).map_err(|e| MirrorError::io(path)(e.error))?;
        let head = fs::read(self.path.join("HEAD")).map_err(MirrorError::io(self.path.join("HEAD")))?;
        let at = path.join("HEAD");
        File::create(&at).and_then(|mut file| file.write_all(&head)).map_err(MirrorError::io(at))
    }
}
