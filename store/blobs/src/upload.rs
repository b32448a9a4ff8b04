//! A blob that arrives in pieces, over several requests and restarts.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::time::{Duration, SystemTime};

use hab_oci::{Algorithm, Digest};

use crate::append::append;
use crate::error::{Error, Result};
use crate::files::{remove_if_there, sync_folder_of, write_ahead};
use crate::folder::Blobs;
use crate::id::UploadId;
use crate::loose::Keeping;
use crate::resume;
use crate::tally::Tally;
use crate::writer::{check, is_kept, seal};

/// An upload, opened by its only writer. After a drop the written bytes stay, and another request can continue.
#[derive(Debug)]
pub struct Upload {
    blobs: Blobs,
    id: UploadId,
    /// Locked while it is open, against other processes and other requests.
    file: File,
    tally: Tally,
    ended: bool,
}

/// From this size on, an upload's running hash is saved beside it. Reading a smaller one again is faster than syncing
/// it.
const LARGE: u64 = 4 << 20;

/// A point in an upload to which it can be rewound.
#[derive(Clone, Debug)]
pub struct Mark(Tally);

impl Blobs {
    /// Starts an upload.
    pub fn begin_upload(&self) -> Result<UploadId> {
        let id = UploadId::random()?;
        let path = self.upload_path(&id);
        OpenOptions::new().write(true).create_new(true).open(&path).map_err(Error::io("create", &path))?;
        self.parked().insert(id.clone(), Tally::new(Algorithm::Sha256));
        Ok(id)
    }

    /// The time since the last bytes of an upload came; `None` if there is no such upload.
    pub fn upload_silence(&self, id: &UploadId) -> Result<Option<Duration>> {
        let path = self.upload_path(id);
        match fs::metadata(&path) {
            Ok(found) => {
                let written = found.modified().map_err(Error::io("look at", &path))?;
                Ok(Some(SystemTime::now().duration_since(written).unwrap_or_default()))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("look at", &path)(e)),
        }
    }

    /// Opens an upload to continue it. Its running hash comes from this process, or else from [`Upload::put_back`]; if
    /// neither belongs to the file as it is now, the file is read again.
    ///
    /// [`Error::UploadUnknown`] if there is no such upload, [`Error::UploadBusy`] if somebody is writing to it.
    pub fn upload(&self, id: &UploadId) -> Result<Upload> {
        let path = self.upload_path(id);
        Self::unseal(id, &path)?;
        let mut file = Self::lock_upload(id, &path, OpenOptions::new().read(true).write(true))?;
        let size = file.metadata().map_err(Error::io("look at", &path))?.len();
        let parked = self.parked().remove(id).filter(|tally| tally.size == size);
        let tally = match parked {
            Some(tally) => tally,
            None => match resume::load(&self.uploads(), id, &file) {
                Some(tally) => tally,
                None => Tally::of_file(&mut file, Algorithm::Sha256).map_err(Error::io("read", &path))?,
            },
        };
        file.seek(SeekFrom::Start(size)).map_err(Error::io("seek in", &path))?;
        Ok(Upload { blobs: self.clone(), id: id.clone(), file, tally, ended: false })
    }

    /// Opens an upload's file and locks it, against other processes and other requests.
    fn lock_upload(id: &UploadId, path: &Path, how: &OpenOptions) -> Result<File> {
        let file = match how.open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::UploadUnknown(id.clone())),
            Err(e) => return Err(Error::io("open", path)(e)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::UploadBusy(id.clone())),
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", path)(e)),
        }
        // Its writer may have finished the upload between opening and locking. The file is then a blob and must not be
        // written.
        if path.exists() { Ok(file) } else { Err(Error::UploadUnknown(id.clone())) }
    }

    /// Makes an upload writable again whose writer was killed between sealing and renaming the file: a sealed file is
    /// read-only, and only root could open it for writing.
    fn unseal(id: &UploadId, path: &Path) -> Result<()> {
        let is_sealed = |found: fs::Metadata| found.permissions().mode() & 0o200 == 0;
        if !fs::metadata(path).is_ok_and(is_sealed) {
            return Ok(());
        }
        // Take the lock first, because a live writer seals its file just before it becomes a blob.
        let file = Self::lock_upload(id, path, OpenOptions::new().read(true))?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(Error::io("make writable", path))
    }

    /// The bytes of an upload so far, without opening it.
    pub fn upload_size(&self, id: &UploadId) -> Result<u64> {
        let path = self.upload_path(id);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::UploadUnknown(id.clone())),
            Err(e) => Err(Error::io("look at", &path)(e)),
        }
    }

    fn upload_path(&self, id: &UploadId) -> PathBuf {
        self.uploads().join(id.as_str())
    }

    fn parked(&self) -> MutexGuard<'_, HashMap<UploadId, Tally>> {
        // A poisoned lock is fine: a panic cannot leave a map operation half done.
        self.shared.parked.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Upload {
    /// The bytes so far.
    pub fn size(&self) -> u64 {
        self.tally.size
    }

    /// Writes all of `bytes`; unlike [`Write::write_all`], a full disk is an error of this crate.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(Error::io("write", &self.path()))
    }

    /// Writes all parts in order and hashes them at the same time. If this fails, none of them is written.
    pub fn add_parts<B: AsRef<[u8]> + Send + Sync + 'static>(&mut self, parts: Vec<B>) -> Result<()> {
        append(&mut self.file, &mut self.tally, parts).map_err(Error::io("write", &self.path()))
    }

    /// The current point, for [`Upload::rewind`].
    pub fn mark(&self) -> Mark {
        Mark(self.tally.clone())
    }

    /// Removes the bytes that were written since `mark`.
    pub fn rewind(&mut self, mark: Mark) -> Result<()> {
        let path = self.path();
        resume::forget(&self.blobs.uploads(), &self.id)?;
        self.file.set_len(mark.0.size).map_err(Error::io("shorten", &path))?;
        self.file.seek(SeekFrom::Start(mark.0.size)).map_err(Error::io("seek in", &path))?;
        self.tally = mark.0;
        Ok(())
    }

    /// Closes the upload so that it costs nothing to open after a restart: syncs its bytes, then saves their running
    /// hash. If the upload is dropped instead, the first to open it after a restart reads it again.
    pub fn put_back(self) -> Result<()> {
        if self.tally.size >= LARGE {
            self.file.sync_all().map_err(Error::io("write", &self.path()))?;
            // The saved hash only saves time. If the disk is full, the next write says so.
            let _ = resume::save(&self.blobs.uploads(), &self.id, &self.file, &self.tally);
        }
        Ok(())
    }

    /// Finishes the upload as [`BlobWriter::commit`](crate::BlobWriter::commit) does, but as a loose blob: it stays
    /// until a collection finds that nothing needs it. The upload is over even if this fails.
    pub fn commit(mut self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        self.ended = true;
        let from = self.path();
        let size = self.tally.size;
        // Removed first, so that a kill cannot leave a saved hash without its upload.
        resume::forget(&self.blobs.uploads(), &self.id)?;
        let kept = check(&mut self.file, self.tally.clone(), expected).and_then(|digest| {
            let target = self.blobs.path(&digest);
            let _pin = self.blobs.pin([&digest])?;
            if is_kept(&target, size, Keeping::Loose)? {
                remove_if_there(&from)?;
            } else {
                seal(&self.file, &from, self.blobs.keeping(&digest, Keeping::Loose)?)?;
                fs::rename(&from, &target).map_err(Error::io("rename a file to", &target))?;
            }
            sync_folder_of(&target)?;
            Ok((digest, size))
        });
        if kept.is_err() {
            remove_if_there(&from)?;
        }
        kept
    }

    /// Ends the upload and removes its bytes.
    pub fn cancel(mut self) -> Result<()> {
        self.ended = true;
        resume::forget(&self.blobs.uploads(), &self.id)?;
        remove_if_there(&self.path())
    }

    fn path(&self) -> PathBuf {
        self.blobs.upload_path(&self.id)
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        let before = self.tally.size;
        self.tally.add(&bytes[..n]);
        write_ahead(&self.file, before, self.tally.size);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.ended {
            self.blobs.parked().insert(self.id.clone(), self.tally.clone());
        }
    }
}
