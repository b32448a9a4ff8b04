//! A view: a repository without objects of its own that shows some of a mirror's refs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use git2::{Oid, Repository};

use super::packed::write_packed;
use super::{ALTERNATES, GRAPH, GitMirror};
use crate::MirrorError;

impl GitMirror {
    /// The branches and tags here, and the objects that they name.
    pub fn refs(&self) -> Result<BTreeMap<String, String>, MirrorError> {
        let mut refs = self.targets("refs/")?;
        refs.retain(|name, _| !name.starts_with("refs/history/"));
        Ok(refs.into_iter().map(|(name, id)| (name, id.to_string())).collect())
    }

    /// Makes the repository at `path` show exactly `refs`, all of them at once, with the mirror's HEAD.
    pub fn show(&self, path: &Path, refs: &BTreeMap<String, String>) -> Result<(), MirrorError> {
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
        write_packed(path, &refs.iter().filter_map(parse).filter(held).collect())?;
        let head = fs::read(self.path.join("HEAD")).map_err(MirrorError::io(self.path.join("HEAD")))?;
        let mut file = tempfile::NamedTempFile::new_in(path).map_err(MirrorError::io(path))?;
        file.write_all(&head).map_err(MirrorError::io(path))?;
        file.persist(path.join("HEAD")).map_err(|e| MirrorError::io(path)(e.error))?;
        Ok(())
    }
}
