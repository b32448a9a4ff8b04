//! Records which archive put what at which path; the workers that fill one root share it.
//!
//! A worker claims every path here before it creates it. So two packages with the same file are found, whichever worker
//! comes first, and the outcome does not depend on that.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hab_oci::Digest;

use super::{UnpackError, UnpackLimits};

/// The unit in which most file systems allocate space.
const BLOCK: u64 = 4096;

/// The archive number of entries that were in the root before.
pub(super) const BEFORE: usize = 0;

/// What is at a path, and which archive (by its number) put it there.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) archive: usize,
    pub(super) node: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File { executable: bool },
    HardLink(Vec<u8>),
    Link(Vec<u8>),
}

/// What the caller has to do after claiming.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Create the entry: nobody else will.
    Create,
    /// The entry exists, and is the same as far as is known now.
    Exists,
    /// Another archive has a file there: pass on a [`Duplicate`], which is compared at the end.
    Compare,
}

/// A file that a second archive has at the same path.
#[derive(Clone, Debug)]
pub(super) struct Duplicate {
    pub(super) path: Vec<u8>,
    pub(super) archive: usize,
    pub(super) mtime: i64,
    pub(super) executable: bool,
    pub(super) digest: Digest,
}

/// The state that workers share.
pub(super) struct Claims<'a> {
    /// The names by archive number: [`BEFORE`], the archives from 1 on, and the caller's links.
    names: Vec<&'a str>,
    limits: UnpackLimits,
    bytes: AtomicU64,
    disk: AtomicU64,
    entries: AtomicU64,
    /// Guards the map; held for one lookup, by any worker.
    nodes: Mutex<HashMap<Box<[u8]>, Claim>>,
    /// Guards the list; held for one push, by any worker.
    duplicates: Mutex<Vec<Duplicate>>,
}

/// Locks a mutex. If a worker panicked, the value is whole: every critical section is a single insertion.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Claims<'a> {
    pub(super) fn new(archives: impl Iterator<Item = &'a str>, limits: UnpackLimits) -> Self {
        let names =
            std::iter::once("the folder as it was before").chain(archives).chain(["the list of links"]);
        Self {
            names: names.collect(),
            limits,
            bytes: AtomicU64::new(0),
            disk: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            nodes: Mutex::default(),
            duplicates: Mutex::default(),
        }
    }

    pub(super) fn name(&self, archive: usize) -> &'a str {
        self.names.get(archive).copied().unwrap_or_default()
    }

    /// The number under which the caller's links are claimed.
    pub(super) fn links(&self) -> usize {
        self.names.len() - 1
    }

    /// Counts `bytes` more of content, before they are written.
    pub(super) fn count_bytes(&self, archive: usize, bytes: u64) -> Result<(), UnpackError> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limits.bytes {
            return Err(UnpackError::TooManyBytes {
                archive: self.name(archive).to_owned(),
                limit: self.limits.bytes,
            });
        }
        Ok(())
    }

    /// Counts the disk space of an entry with `bytes` of content, before any of it is written.
    pub(super) fn count_disk(&self, archive: usize, bytes: u64) -> Result<(), UnpackError> {
        // A folder takes about a block, and so do the name and inode of any other entry.
        let taken = bytes.div_ceil(BLOCK).saturating_add(1).saturating_mul(BLOCK);
        let before = self.disk.fetch_add(taken, Ordering::Relaxed);
        if before.saturating_add(taken) > self.limits.disk {
            let archive = self.name(archive).to_owned();
            return Err(UnpackError::TooMuchDisk { archive, limit: self.limits.disk });
        }
        Ok(())
    }

    /// The disk space that was counted.
    pub(super) fn disk(&self) -> u64 {
        self.disk.load(Ordering::Relaxed)
    }

    /// Counts an entry.
    pub(super) fn count_entry(&self, archive: usize) -> Result<(), UnpackError> {
        if self.entries.fetch_add(1, Ordering::Relaxed) >= self.limits.entries {
            let archive = self.name(archive).to_owned();
            return Err(UnpackError::TooManyEntries { archive, limit: self.limits.entries });
        }
        Ok(())
    }

    /// Entries and bytes so far.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.entries.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Claims `path` for `node`.
    pub(super) fn claim(&self, archive: usize, path: &[u8], node: Node) -> Result<Turn, UnpackError> {
        let mut nodes = lock(&self.nodes);
        let claim = match nodes.entry(path.into()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Claim { archive, node });
                return Ok(Turn::Create);
            }
            Entry::Occupied(occupied) => occupied.into_mut(),
        };
        match (&claim.node, &node) {
            (Node::File { .. }, Node::File { .. }) => Ok(Turn::Compare),
            (a, b) if a == b => {
                claim.archive = claim.archive.min(archive);
                Ok(Turn::Exists)
            }
            _ => Err(self.conflict(archive, claim.archive, path)),
        }
    }

    /// Records that the entry at `path` existed before anything was unpacked.
    pub(super) fn was_before(&self, path: &[u8]) {
        if let Some(claim) = lock(&self.nodes).get_mut(path) {
            claim.archive = BEFORE;
        }
    }

    /// Records that the file at `path` belongs to the duplicate's archive from now on.
    pub(super) fn hand_over(&self, duplicate: &Duplicate) {
        if let Some(claim) = lock(&self.nodes).get_mut(duplicate.path.as_slice()) {
            claim.archive = duplicate.archive;
        }
    }

    /// The claim on `path`.
    pub(super) fn at(&self, path: &[u8]) -> Option<Claim> {
        lock(&self.nodes).get(path).cloned()
    }

    /// Stores a duplicate, which is compared at the end.
    pub(super) fn duplicate(&self, duplicate: Duplicate) {
        lock(&self.duplicates).push(duplicate);
    }

    /// The duplicates in an order that does not depend on the workers.
    pub(super) fn duplicates(&self) -> Vec<Duplicate> {
        let mut all = std::mem::take(&mut *lock(&self.duplicates));
        all.sort_by(|a, b| (&a.path, a.archive).cmp(&(&b.path, b.archive)));
        all
    }

    /// Every directory, deepest first.
    pub(super) fn directories(&self) -> Vec<Box<[u8]>> {
        let nodes = lock(&self.nodes);
        let mut all: Vec<_> =
            nodes.iter().filter(|(_, c)| c.node == Node::Directory).map(|(p, _)| p.clone()).collect();
        all.sort_by(|a, b| b.cmp(a));
        all
    }

    /// The error for two archives that disagree; it names the one with the lower number as the first.
    pub(super) fn conflict(&self, one: usize, two: usize, path: &[u8]) -> UnpackError {
        UnpackError::Conflict {
            archive: self.name(one.max(two)).to_owned(),
            other: self.name(one.min(two)).to_owned(),
            entry: super::shown(path),
        }
    }
}
