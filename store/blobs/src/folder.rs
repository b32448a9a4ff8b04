//! The folder of blobs.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hab_oci::{Algorithm, Digest};

use crate::error::{Error, Result};
use crate::files::{open_plain, remove_if_there};
use crate::id::UploadId;
use crate::loose::Keeping;
use crate::tally::Tally;
use crate::writer::BlobWriter;

/// The folder `<data>/blobs`: `sha256/ab/<hex>` and `sha512/ab/<hex>` hold finished, immutable and synced blobs. `tmp/`
/// and `uploads/` hold unfinished ones, and nothing reads those by a digest. `damaged/` holds files that did not match
/// their digest.
///
/// Synchronous; a clone is another handle on the same folder.
#[derive(Clone, Debug)]
pub struct Blobs {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    /// Guards the running hashes of uploads that nobody has open, so that the next chunk need not read the file
    /// again. Held for a map operation only; a lost entry costs one re-read.
    pub(crate) parked: Mutex<HashMap<UploadId, Tally>>,
}

/// A finished blob, opened.
#[derive(Debug)]
pub struct Blob {
    /// Its bytes, at offset 0.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
}

impl Blobs {
    /// Opens `<data_dir>/blobs`, makes it if it is missing, and removes files that dead writers left in `tmp`.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let root = data_dir.join("blobs");
        for folder in ["tmp", "uploads", "damaged", "strays", "sha256", "sha512"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        }
        let blobs = Self { shared: Arc::new(Shared { root, parked: Mutex::default() }) };
        blobs.sweep()?;
        Ok(blobs)
    }

    /// Removes files in `tmp` that have no writer. A live writer holds a lock on its file, so a file that can be locked
    /// has none.
    fn sweep(&self) -> Result<()> {
        let folder = self.tmp();
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let path = entry.map_err(Error::io("list", &folder))?.path();
            let file = match File::open(&path) {
                Ok(file) => file,
                // Another process finished or swept it meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io("open", &path)(e)),
            };
            match file.try_lock() {
                Ok(()) => remove_if_there(&path)?,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
            }
        }
        Ok(())
    }

    /// A new blob, hashed as sha256 while it is written.
    pub fn writer(&self) -> Result<BlobWriter> {
        self.writer_with(Algorithm::Sha256)
    }

    /// A new blob, hashed by a given algorithm while it is written.
    pub fn writer_with(&self, algorithm: Algorithm) -> Result<BlobWriter> {
        BlobWriter::create(self.clone(), algorithm)
    }

    /// Fails unless a blob can be written now.
    pub fn is_ready(&self) -> Result<()> {
        self.writer()?.add(b"?")
    }

    /// Free bytes in the file system that this process may use.
    pub fn free(&self) -> Result<u64> {
        let found = rustix::fs::statvfs(&self.shared.root);
        let found = found.map_err(|e| Error::io("look at", &self.shared.root)(e.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Stores a small document for good; use [`Blobs::writer`] for a stream.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.put_as(&digest, bytes)?;
        Ok(digest)
    }

    /// Stores a small document for good and checks its digest. Replaces a stored file that is damaged.
    pub fn put_as(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.put_kept(digest, bytes, Keeping::ForGood)
    }

    /// As [`Blobs::put_as`], for good or loose.
    pub fn put_kept(&self, digest: &Digest, bytes: &[u8], keeping: Keeping) -> Result<()> {
        let damaged = {
            let kept = self.read(digest, bytes.len() as u64);
            matches!(kept, Err(Error::Damaged { .. } | Error::TooLarge { .. }))
        };
        let mut writer = self.writer_with(digest.algorithm())?;
        writer.add(bytes)?;
        writer.finish(Some(digest), keeping, damaged).map(|_| ())
    }

    /// The size of a finished blob, or `None` if there is no such blob.
    pub fn get(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(metadata).filter(fs::Metadata::is_file).map(|metadata| metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("look at", &path)(e)),
        }
    }

    /// Opens a finished blob, or `None` if there is no such blob.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>> {
        let path = self.path(digest);
        let opened = open_plain(&path).map_err(Error::io("open", &path))?;
        Ok(opened.map(|(file, size)| Blob { file, size }))
    }

    /// Reads a document and checks it against its digest; `None` if there is no such blob.
    ///
    /// A document of more than `limit` bytes is [`Error::TooLarge`]: a stranger may have pushed it, and a digest does
    /// not bound a size.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(blob) = self.open_blob(digest)? else { return Ok(None) };
        if blob.size > limit {
            return Err(Error::TooLarge { digest: digest.clone(), size: blob.size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
        // A file that grows is damaged: read one byte too many, and no more.
        let mut file = blob.file.take(blob.size.saturating_add(1));
        file.read_to_end(&mut bytes).map_err(Error::io("read", &self.path(digest)))?;
        if Digest::of_with(digest.algorithm(), &bytes) == *digest {
            Ok(Some(bytes))
        } else {
            Err(Error::Damaged { digest: digest.clone() })
        }
    }

    /// The path of a finished blob, whether or not it exists. Callers must only read there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.shared.root.join(digest.algorithm().name()).join(&hex[..2]).join(hex)
    }

    /// Removes a blob; `false` if there was none. The catalog must no longer mention it.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("remove", &path)(e)),
        }
    }

    /// The path to which a file is moved that does not match this digest.
    pub fn damaged(&self, digest: &Digest) -> PathBuf {
        self.shared.root.join("damaged").join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    /// The folder `<data>/blobs`.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// The identity of the farm that these blobs belong to, if [`Blobs::set_farm`] recorded one.
    pub fn farm(&self) -> Result<Option<String>> {
        let path = self.shared.root.join("farm");
        match fs::read_to_string(&path) {
            // A damaged file counts as a missing one: the catalog also knows the farm.
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|farm| is_identity(farm))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    /// Records the identity of the farm that these blobs belong to.
    pub fn set_farm(&self, farm: &str) -> Result<()> {
        let written =
            hab_file::replace_with(&self.shared.root.join("farm"), 0o644, format!("{farm}\n").as_bytes());
        written.map_err(|e| {
            let (path, source) = e.into_io();
            Error::io("write", &path)(source)
        })
    }

    /// Whether there is any blob.
    pub fn any(&self) -> Result<bool> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.shared.root.join(algorithm.name());
            for stripe in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
                let stripe = stripe.map_err(Error::io("list", &folder))?.path();
                // Plain files in this folder are not this program's; skip them.
                if stripe.is_dir()
                    && fs::read_dir(&stripe).map_err(Error::io("list", &stripe))?.next().is_some()
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.shared.root.join("tmp")
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.shared.root.join("uploads")
    }
}

fn is_identity(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
