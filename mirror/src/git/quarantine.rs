//! The repository where an upstream's objects arrive first, which nothing else reads. git checks the objects there;
//! only then are its packs moved to the mirror's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};

use super::blame::{Cause, failed};
use super::program::{Git, lines};
use super::remote::Remote;
use crate::MirrorError;

pub(super) struct Quarantine<'a> {
    git: &'a Git<'a>,
    path: PathBuf,
    /// The object folder that its packs will be moved to.
    objects: &'a Path,
    /// The objects that were fetched by id.
    came: BTreeSet<Oid>,
}

impl<'a> Quarantine<'a> {
    /// An empty quarantine; removes what a killed run left. `known` are commits and tags that are here already: what
    /// they reach is not sent again.
    pub(super) fn new(
        git: &'a Git<'a>,
        path: PathBuf,
        objects: &'a Path,
        known: &BTreeMap<String, Oid>,
    ) -> Result<Self, MirrorError> {
        clear(&path)?;
        let this = Self { git, path, objects, came: BTreeSet::new() };
        if !known.is_empty() {
            Repository::init_bare(&this.path).map_err(this.broken())?;
            // The header claims neither "sorted" nor "peeled", so git relies on neither.
            let refs = lines(known.iter().map(|(name, id)| format!("{id} {name}")));
            let packed = this.path.join("packed-refs");
            fs::write(&packed, refs).map_err(MirrorError::io(&packed))?;
        }
        Ok(this)
    }

    /// The quarantine's folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Clones all branches and tags, and refs that match `more`, from `remote`; for a mirror that is still empty.
    /// Returns the refs that arrived.
    pub(super) fn clone(
        &self,
        remote: &Remote,
        more: &[String],
    ) -> Result<BTreeMap<String, Oid>, MirrorError> {
        self.git.clone(remote, more, &self.path)?;
        self.check_sizes(remote)?;
        let mut arrived = BTreeMap::new();
        let repository = Repository::open_bare(&self.path).map_err(self.broken())?;
        for reference in repository.references().map_err(self.broken())? {
            let reference = reference.map_err(self.broken())?;
            if let (Ok(name), Some(id)) = (reference.name(), reference.target()) {
                arrived.insert(name.to_owned(), id);
            }
        }
        Ok(arrived)
    }

    /// Fetches the objects with these ids, and everything that they reach, from `remote`.
    pub(super) fn fetch(&mut self, remote: &Remote, ids: &BTreeSet<Oid>) -> Result<(), MirrorError> {
        if !self.path.exists() {
            Repository::init_bare(&self.path).map_err(self.broken())?;
        }
        self.git.fetch(remote, ids, &self.path, self.objects)?;
        self.check_sizes(remote)?;
        // Record the new objects, so that the next upstream need not send them again.
        let packed = self.path.join("packed-refs");
        let before = match fs::read_to_string(&packed) {
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            before => before.map_err(MirrorError::io(&packed))?,
        };
        // Drop the header that a clone writes, so that git relies on nothing, such as the order of the lines.
        let before = before.lines().filter(|line| !line.starts_with('#'));
        let came =
            ids.iter().filter(|id| self.came.insert(**id)).map(|id| format!("{id} refs/known/came/{id}"));
        let text = lines(before.map(str::to_owned).chain(came));
        fs::write(&packed, text).map_err(MirrorError::io(&packed))
    }

    /// Checks the largest object, because a small pack may hold a huge one.
    fn check_sizes(&self, remote: &Remote) -> Result<(), MirrorError> {
        let (largest, most) = (self.git.largest(remote, &self.path)?, self.git.bounds.object);
        if largest > most {
            let cause = Cause::NotTaken(format!(
                "it has an object of {largest} bytes, more than the {most} that are allowed"
            ));
            return Err(failed("fetch", remote, &cause));
        }
        Ok(())
    }

    /// Moves the packs to the mirror's; each pack's index last, because a pack exists only once its index does.
    pub(super) fn release(self) -> Result<(), MirrorError> {
        let (from, to) = (self.path.join("objects/pack"), self.objects.join("pack"));
        let mut files: Vec<_> =
            fs::read_dir(&from).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        files.sort_by_key(|name| name.to_string_lossy().ends_with(".idx"));
        fs::create_dir_all(&to).map_err(MirrorError::io(&to))?;
        let mut moved = false;
        for name in files {
            if name.to_string_lossy().starts_with("pack-") {
                fs::rename(from.join(&name), to.join(&name)).map_err(MirrorError::io(to.join(&name)))?;
                moved = true;
            }
        }
        if moved {
            File::open(&to).and_then(|folder| folder.sync_all()).map_err(MirrorError::io(&to))?;
        }
        clear(&self.path)
    }

    fn broken(&self) -> impl Fn(git2::Error) -> MirrorError + '_ {
        |source| MirrorError::Repository { path: self.path.clone(), source }
    }
}

/// Removes a quarantine and everything in it.
pub(super) fn clear(path: &Path) -> Result<(), MirrorError> {
    hab_tree::remove(path).map_err(MirrorError::io(path))
}
