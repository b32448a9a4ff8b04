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

/// An upload, opened by its only writer. On drop it is put back: what was written stays, and another request goes on
/// from there.
#[derive(Debug)]
pub struct Upload {
    blobs: Blobs,
    id: UploadId,
    /// Locked while it is open, against another process and another request alike.
    file: File,
    tally: Tally,
    ended: bool,
}

/// Uploads from this size on keep their running hash beside them: what is smaller is read again sooner than it is synced.
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

    /// For how long nothing came for an upload; `None` if there is none.
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

    /// Opens an upload to go on with it. Its running hash is the one of this process, or else the one that
    /// [`Upload::put_back`] kept; where neither is of this file as it is, the file is read again.
    ///
    /// [`Error::UploadUnknown`] if there is none, [`Error::UploadBusy`] if somebody is writing to it.
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

    /// Opens an upload's file and locks it, against another process and another request alike.
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
        // Its writer may have finished it between the two steps above: then this is a blob, and not ours to write.
        if path.exists() { Ok(file) } else { Err(Error::UploadUnknown(id.clone())) }
    }

    /// Makes an upload writable again that was sealed and then not renamed, because its writer was killed in between:
    /// only root could open it for writing.
    fn unseal(id: &UploadId, path: &Path) -> Result<()> {
        let is_sealed = |found: fs::Metadata| found.permissions().mode() & 0o200 == 0;
        if !fs::metadata(path).is_ok_and(is_sealed) {
            return Ok(());
        }
        // Under the lock, because a live writer seals it just before it becomes a blob.
        let file = Self::lock_upload(id, path, OpenOptions::new().read(true))?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(Error::io("make writable", path))
    }

    /// How many bytes of an upload are there, without opening it.
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
        // A panic while it is held cannot leave half a map operation behind.
        self.shared.parked.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Upload {
    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.tally.size
    }

    /// Writes all of `bytes`; unlike [`Write::write_all`], a full disk is an error of this crate.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(Error::io("write", &self.path()))
    }

    /// Writes all of these, one after the other, and hashes them meanwhile. Where this fails, none of them is there.
    pub fn add_parts<B: AsRef<[u8]> + Send + Sync + 'static>(&mut self, parts: Vec<B>) -> Result<()> {
        append(&mut self.file, &mut self.tally, parts).map_err(Error::io("write", &self.path()))
    }

    /// Where it stands now.
    pub fn mark(&self) -> Mark {
        Mark(self.tally.clone())
    }

    /// Forgets what was written since `mark`.
    pub fn rewind(&mut self, mark: Mark) -> Result<()> {
        let path = self.path();
        resume::forget(&self.blobs.uploads(), &self.id)?;
        self.file.set_len(mark.0.size).map_err(Error::io("shorten", &path))?;
        self.file.seek(SeekFrom::Start(mark.0.size)).map_err(Error::io("seek in", &path))?;
        self.tally = mark.0;
        Ok(())
    }

    /// Puts it back so that a restart costs nothing: what was written is on disk afterwards, and then the running hash
    /// of it. To drop it instead means that the next one who opens it after a restart reads it again.
    pub fn put_back(self) -> Result<()> {
        if self.tally.size >= LARGE {
            self.file.sync_all().map_err(Error::io("write", &self.path()))?;
            // It only saves time: a full disk is for the next bytes to find.
            let _ = resume::save(&self.blobs.uploads(), &self.id, &self.file, &self.tally);
        }
        Ok(())
    }

    /// Finishes the upload as [`BlobWriter::commit`](crate::BlobWriter::commit) does, but not for good: until a collection
    /// finds that nothing needs the blob. Either way the upload is over.
    pub fn commit(mut self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        self.ended = true;
        let from = self.path();
        let size = self.tally.size;
        // First, so that a kill cannot leave it without its upload.
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

    /// Gives the upload up and removes what was written.
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
