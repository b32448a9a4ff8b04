//! The folder of blobs.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hab_oci::{Algorithm, Digest};

use crate::error::{Error, Result};
use crate::files::{open_plain, remove_if_there, sync_folder_of};
use crate::id::UploadId;
use crate::loose::Keeping;
use crate::tally::Tally;
use crate::writer::BlobWriter;

/// The folder `<data>/blobs`: `sha256/ab/<hex>` and `sha512/ab/<hex>` are finished, immutable and synced; `tmp/` and
/// `uploads/` are not, and nothing ever reads them by a digest. `damaged/` has files that were found to be something else.
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
    /// How many there are.
    pub size: u64,
}

impl Blobs {
    /// Opens `<data_dir>/blobs`, making it where it is missing, and removes what dead writers left in `tmp`.
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

    /// A live writer holds a lock on its file, so a file that can be locked has no writer.
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

    /// Whether something could be kept now.
    pub fn is_ready(&self) -> Result<()> {
        self.writer()?.add(b"?")
    }

    /// Bytes that the file system still has for us.
    pub fn free(&self) -> Result<u64> {
        let found = rustix::fs::statvfs(&self.shared.root);
        let found = found.map_err(|e| Error::io("look at", &self.shared.root)(e.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Keeps a small document; for streams there is [`Blobs::writer`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.put_as(&digest, bytes)?;
        Ok(digest)
    }

    /// Keeps a small document that has to have this digest. One that is there and damaged is replaced.
    pub fn put_as(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.put_kept(digest, bytes, Keeping::ForGood)
    }

    /// The same, kept for good or not.
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

    /// A document's bytes, checked against the digest; `None` if there is no such blob.
    ///
    /// One of more than `limit` bytes is [`Error::TooLarge`]: whoever put it here may be a stranger, and a digest says
    /// nothing of a size.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(blob) = self.open_blob(digest)? else { return Ok(None) };
        if blob.size > limit {
            return Err(Error::TooLarge { digest: digest.clone(), size: blob.size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
        // A file that grows is damaged, and no reason to read on.
        let mut file = blob.file.take(blob.size.saturating_add(1));
        file.read_to_end(&mut bytes).map_err(Error::io("read", &self.path(digest)))?;
        if Digest::of_with(digest.algorithm(), &bytes) == *digest {
            Ok(Some(bytes))
        } else {
            Err(Error::Damaged { digest: digest.clone() })
        }
    }

    /// Where a finished blob is, or would be. To be read only.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.shared.root.join(digest.algorithm().name()).join(&hex[..2]).join(hex)
    }

    /// Removes a blob; `false` if there was none. The catalog must not mention it any more.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("remove", &path)(e)),
        }
    }

    /// Where the file of a digest goes that was found to be something else.
    pub fn damaged(&self, digest: &Digest) -> PathBuf {
        self.shared.root.join("damaged").join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Which farm's blobs these are, if that was ever said.
    pub fn farm(&self) -> Result<Option<String>> {
        let path = self.shared.root.join("farm");
        match fs::read_to_string(&path) {
            // Anything else is damage, and as good as nothing: the catalog knows whose they are.
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|farm| is_identity(farm))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    /// Says which farm's blobs these are.
    pub fn set_farm(&self, farm: &str) -> Result<()> {
        let (path, scratch) = (self.shared.root.join("farm"), self.shared.root.join("farm.new"));
        fs::write(&scratch, format!("{farm}\n")).map_err(Error::io("write", &scratch))?;
        File::open(&scratch).and_then(|file| file.sync_all()).map_err(Error::io("write", &scratch))?;
        fs::rename(&scratch, &path).map_err(Error::io("rename a file to", &path))?;
        sync_folder_of(&path)
    }

    /// Whether there is any blob.
    pub fn any(&self) -> Result<bool> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.shared.root.join(algorithm.name());
            for stripe in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
                let stripe = stripe.map_err(Error::io("list", &folder))?.path();
                // What somebody else put there is not ours to judge.
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
