//! Which files a collection may remove, and how that meets those who keep the same bytes at that moment.
//!
//! One folder holds what clients push and what nobody can push again: mirrored files, evidence, logs, builds. Much of
//! the latter is written by those who know no catalog, so no query could find all that needs a blob. Therefore the file
//! itself says whether it is *loose*: only what came through a push and was never kept by anybody else is, and only
//! loose files are ever removed. [`Blobs::put`] and [`BlobWriter::commit`](crate::BlobWriter::commit), which everybody
//! else uses, keep for good, and make a loose file kept for good when it has the same bytes. The mark is the sticky
//! bit, which means nothing on a file and which no umask and no `cp` sets: where it is lost, the file stays.
//!
//! Whoever keeps bytes pins their digest: a shared lock of the folder `sha256/ab` that the file is in, from before it
//! is looked whether the file is there until what is said about it is committed. A collection takes the row out of the
//! catalog first; then, for each digest, it locks that folder alone, looks again whether the catalog names the digest,
//! and removes the file. So either the pin came first: then the row is there when the collection looks, and the file
//! stays. Or the lock came first: then the file is gone when the pin is taken, and is written again. 512 folders are
//! 512 locks; none is held for longer than a transaction.

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

/// For how long bytes are kept.
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

/// While it lives no collection removes the files of some digests.
#[derive(Debug)]
pub struct Pin {
    _folders: Vec<File>,
}

/// While it lives nobody else keeps or removes the file of a digest.
#[derive(Debug)]
pub struct Alone {
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

    /// Waits until nobody pins a digest, and keeps others from pinning it until this is dropped.
    pub fn alone(&self, digest: &Digest) -> Result<Alone> {
        let (folder, path) = self.folder(digest)?;
        folder.lock().map_err(Error::io("lock", &path))?;
        Ok(Alone { _folder: folder })
    }

    fn folder(&self, digest: &Digest) -> Result<(File, PathBuf)> {
        let path = self.path(digest);
        ensure_folder_of(&path)?;
        let folder = path.parent().unwrap_or(&path).to_owned();
        Ok((File::open(&folder).map_err(Error::io("open", &folder))?, folder))
    }

    /// Only one at a time may collect; the lock goes with the value.
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

    /// Removes a loose file and returns its size. The caller is [`Alone`] with it, and has asked the catalog since.
    pub fn remove_loose(&self, digest: &Digest, _alone: &Alone) -> Result<Option<u64>> {
        let size = self.loose(digest)?;
        if size.is_some() {
            remove_if_there(&self.path(digest))?;
        }
        Ok(size)
    }

    /// How a file that is about to be written is kept: for good, if one that it takes the place of was.
    pub(crate) fn keeping(&self, digest: &Digest, wanted: Keeping) -> Result<Keeping> {
        let before = match look(&self.path(digest))? {
            Some(found) => Some(found),
            None => look(&self.damaged(digest))?,
        };
        Ok(before.map_or(wanted, |(keeping, _)| if keeping == Keeping::Loose { wanted } else { keeping }))
    }
}

/// Makes a loose file kept for good.
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
