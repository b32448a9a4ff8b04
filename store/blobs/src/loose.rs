//! Which files a collection may remove, and how it avoids removing bytes that somebody stores at the same moment.
//!
//! One folder holds blobs that clients push and blobs that nobody can push again: mirrored files, evidence, logs,
//! builds. Code that does not know the catalog writes many of the latter, so no query could find everything that needs
//! a blob. Therefore the file itself says whether it is *loose*: a file is loose if it came through a push and nobody
//! else stored the same bytes, and only loose files are ever removed. [`Blobs::put`] and
//! [`BlobWriter::commit`](crate::BlobWriter::commit), which all other code uses, store for good; where a loose file has
//! the same bytes, they make it stay for good. The mark is the sticky bit, which means nothing on a file and which no
//! umask and no `cp` sets. A file that loses the bit stays.
//!
//! A process that stores bytes pins their digest: it takes a shared lock of the file's folder `sha256/ab` before it
//! looks for the file, and holds it until the catalog's row is committed. A collection first deletes the row from the
//! catalog. Then, for each digest, it takes the folder's exclusive lock, looks again whether the catalog names the
//! digest, and if not removes the file. If the pin came first, the collection finds the row again and the file stays.
//! If the exclusive lock came first, the file is gone when the pin is taken, and is written again. There are 512
//! folders and so 512 locks; none is held for longer than a transaction.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hab_oci::Digest;

use crate::error::{Error, Result};
use crate::files::{ensure_folder_of, remove_if_there};
use crate::folder::Blobs;

const LOOSE: u32 = 0o1444;
const FOR_GOOD: u32 = 0o444;
const STICKY: u32 = 0o1000;

/// How long a blob stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// As long as the data folder lives.
    ForGood,
    /// Until a collection finds that nothing in the catalog needs them.
    Loose,
}

impl Keeping {
    pub(crate) fn permissions(self) -> Permissions {
        Permissions::from_mode(match self {
            Self::ForGood => FOR_GOOD,
            Self::Loose => LOOSE,
        })
    }
}

/// A shared lock: while it lives, no collection removes the files of its digests.
#[derive(Debug)]
pub struct Pin {
    _folders: Vec<File>,
}

/// An exclusive lock: while it lives, nobody else stores or removes the file of its digest.
#[derive(Debug)]
pub struct ExclusiveLock {
    _folder: File,
}

impl Blobs {
    /// Keeps collections from removing the files of these digests, until the pin is dropped.
    pub fn pin<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Result<Pin> {
        let mut folders = Vec::new();
        let stripes: BTreeSet<_> =
            digests.into_iter().map(|digest| (digest.algorithm(), &digest.hex()[..2], digest)).collect();
        let mut last = None;
        for (algorithm, stripe, digest) in stripes {
            if last.replace((algorithm, stripe)) != Some((algorithm, stripe)) {
                let (folder, path) = self.folder(digest)?;
                folder.lock_shared().map_err(Error::io("lock", &path))?;
                folders.push(folder);
            }
        }
        Ok(Pin { _folders: folders })
    }

    /// Waits until nobody pins a digest; others cannot pin it until the result is dropped.
    pub fn alone(&self, digest: &Digest) -> Result<ExclusiveLock> {
        let (folder, path) = self.folder(digest)?;
        folder.lock().map_err(Error::io("lock", &path))?;
        Ok(ExclusiveLock { _folder: folder })
    }

    fn folder(&self, digest: &Digest) -> Result<(File, PathBuf)> {
        let path = self.path(digest);
        ensure_folder_of(&path)?;
        let folder = path.parent().unwrap_or(&path).to_owned();
        Ok((File::open(&folder).map_err(Error::io("open", &folder))?, folder))
    }

    /// Takes the lock of the only collection; dropping the file releases it.
    pub fn only_collector(&self) -> Result<File> {
        let path = self.shared.root.join("collector.lock");
        let file = File::create(&path).map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Error::Collecting),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", &path)(e)),
        }
    }

    /// The size of a loose file; `None` if there is none, or it is kept for good.
    pub fn loose(&self, digest: &Digest) -> Result<Option<u64>> {
        let found = look(&self.path(digest))?;
        Ok(found.filter(|(keeping, _)| *keeping == Keeping::Loose).map(|(_, size)| size))
    }

    /// Removes a loose file and returns its size. The caller holds [`ExclusiveLock`], and must have asked the catalog
    /// since it took that lock.
    pub fn remove_loose(&self, digest: &Digest, _alone: &ExclusiveLock) -> Result<Option<u64>> {
        let size = self.loose(digest)?;
        if size.is_some() {
            remove_if_there(&self.path(digest))?;
        }
        Ok(size)
    }

    /// How long a file that is about to be written stays: for good, if the file that it replaces was to stay for good.
    pub(crate) fn keeping(&self, digest: &Digest, wanted: Keeping) -> Result<Keeping> {
        let before = match look(&self.path(digest))? {
            Some(found) => Some(found),
            None => look(&self.damaged(digest))?,
        };
        Ok(before.map_or(wanted, |(keeping, _)| if keeping == Keeping::Loose { wanted } else { keeping }))
    }
}

/// Makes a loose file stay for good.
pub(crate) fn keep_for_good(path: &Path) -> Result<()> {
    if look(path)?.is_some_and(|(keeping, _)| keeping == Keeping::Loose) {
        let file = File::open(path).map_err(Error::io("open", path))?;
        file.set_permissions(Keeping::ForGood.permissions()).map_err(Error::io("keep", path))?;
        file.sync_all().map_err(Error::io("write", path))?;
    }
    Ok(())
}

fn look(path: &Path) -> Result<Option<(Keeping, u64)>> {
    match fs::metadata(path) {
        Ok(found) => {
            let loose = found.permissions().mode() & STICKY != 0;
            Ok(Some((if loose { Keeping::Loose } else { Keeping::ForGood }, found.len())))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("look at", path)(e)),
    }
}
