//! Where an upstream's objects land first: a repository of its own, in which nothing here ever looks for anything. Git
//! checks what arrives there, and only then are its packs moved to the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};

use super::blame::failed;
use super::program::{Git, lines};
use super::remote::Remote;
use crate::MirrorError;

pub(super) struct Quarantine<'a> {
    git: &'a Git<'a>,
    path: PathBuf,
    /// The object folder that its packs will be moved to.
    objects: &'a Path,
    /// What was fetched by its id.
    came: BTreeSet<Oid>,
}

impl<'a> Quarantine<'a> {
    /// An empty one; what a run that was killed left there is removed. `known` are commits and tags that are here
    /// already: what they reach is not sent again.
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
            // Not "sorted" and not "peeled": git then takes nothing for granted.
            let refs = lines(known.iter().map(|(name, id)| format!("{id} {name}")));
            let packed = this.path.join("packed-refs");
            fs::write(&packed, refs).map_err(MirrorError::io(&packed))?;
        }
        Ok(this)
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Brings all branches and tags from `remote`, and what `more` names, by a clone, when nothing is here; returns the
    /// values that arrived.
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

    /// Brings the objects with these ids from `remote`, and what they reach.
    pub(super) fn fetch(&mut self, remote: &Remote, ids: &BTreeSet<Oid>) -> Result<(), MirrorError> {
        if !self.path.exists() {
            Repository::init_bare(&self.path).map_err(self.broken())?;
        }
        self.git.fetch(remote, ids, &self.path, self.objects)?;
        self.check_sizes(remote)?;
        // The next upstream need not send them again.
        let packed = self.path.join("packed-refs");
        let before = match fs::read_to_string(&packed) {
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            before => before.map_err(MirrorError::io(&packed))?,
        };
        // Without the header that a clone writes, git takes nothing about the lines for granted, such as their order.
        let before = before.lines().filter(|line| !line.starts_with('#'));
        let came =
            ids.iter().filter(|id| self.came.insert(**id)).map(|id| format!("{id} refs/known/came/{id}"));
        let text = lines(before.map(str::to_owned).chain(came));
        fs::write(&packed, text).map_err(MirrorError::io(&packed))
    }

    /// A small pack may hold a huge object.
    fn check_sizes(&self, remote: &Remote) -> Result<(), MirrorError> {
        let (largest, most) = (self.git.largest(remote, &self.path)?, self.git.bounds.object);
        if largest > most {
            let stderr =
                format!("it has an object of {largest} bytes, more than the {most} that are allowed");
            return Err(failed("fetch", remote, &stderr));
        }
        Ok(())
    }

    /// Moves what arrived to where it is read from; a pack's index last, because with it the pack begins to exist.
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

/// Removes a quarantine and all that is in it.
pub(super) fn clear(path: &Path) -> Result<(), MirrorError> {
    hab_tree::remove(path).map_err(MirrorError::io(path))
}
