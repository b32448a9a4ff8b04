//! Bytes named by their digest, as files.

mod append;
mod damage;
mod helpers;
mod loose;
mod resume;
mod upload;
mod writer;

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hab_oci::{Algorithm, Digest, Hasher};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, Result};
pub(crate) use damage::{Stripe, Suspect};
pub(crate) use loose::{Alone, Keeping};
pub use upload::{Mark, Upload, UploadId, UploadIdError};
pub use writer::BlobWriter;
pub(crate) use writer::{ensure_folder_of, sync_folder_of};

/// The folder `<data>/blobs`: `sha256/ab/<hex>` and `sha512/ab/<hex>` are finished, immutable and synced; `tmp/` and
/// `uploads/` are not, and nothing ever reads them by a digest. `damaged/` has files that were found to be something else.
///
/// Synchronous; a clone is another handle on the same folder.
#[derive(Clone, Debug)]
pub struct Blobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// Guards the running hashes of uploads that nobody has open, so that the next chunk need not read the file
    /// again. Held for a map operation only; a lost entry costs one re-read.
    parked: Mutex<HashMap<UploadId, Tally>>,
}

/// A finished blob, opened.
#[derive(Debug)]
pub struct Blob {
    /// Its bytes, at offset 0.
    pub file: File,
    /// How many there are.
    pub size: u64,
}

/// How many bytes went by, and their running digest.
#[derive(Clone, Debug)]
struct Tally {
    hasher: Hasher,
    size: u64,
}

impl Tally {
    fn new(algorithm: Algorithm) -> Self {
        Self { hasher: Hasher::new(algorithm), size: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn of_file(file: &mut File, algorithm: Algorithm) -> io::Result<Self> {
        io::Seek::rewind(file)?;
        let mut tally = Self::new(algorithm);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(tally),
                n => tally.add(&buffer[..n]),
            }
        }
    }
}

/// How much is written before the disk begins with it.
const AHEAD: u64 = 8 << 20;

/// Has the system begin to write what it holds back of a growing file, so that the sync at its end has little left to wait for.
fn write_ahead(file: &File, before: u64, now: u64) {
    let (from, to) = (before / AHEAD * AHEAD, now / AHEAD * AHEAD);
    if let Some(length) = NonZeroU64::new(to - from) {
        // Of what is not written yet this advice begins the writing, and keeps it: only what is clean is dropped. That it is
        // not taken harms nothing.
        let _ = rustix::fs::fadvise(file, from, Some(length), rustix::fs::Advice::DontNeed);
    }
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
    pub(crate) fn is_ready(&self) -> Result<()> {
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

    pub(crate) fn put_kept(&self, digest: &Digest, bytes: &[u8], keeping: Keeping) -> Result<()> {
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
    pub(crate) fn damaged(&self, digest: &Digest) -> PathBuf {
        self.shared.root.join("damaged").join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Which farm's blobs these are, if that was ever said.
    pub(crate) fn farm(&self) -> Result<Option<String>> {
        let path = self.shared.root.join("farm");
        match fs::read_to_string(&path) {
            // Anything else is damage, and as good as nothing: the catalog knows whose they are.
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|farm| is_identity(farm))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    pub(crate) fn set_farm(&self, farm: &str) -> Result<()> {
        let (path, scratch) = (self.shared.root.join("farm"), self.shared.root.join("farm.new"));
        fs::write(&scratch, format!("{farm}\n")).map_err(Error::io("write", &scratch))?;
        File::open(&scratch).and_then(|file| file.sync_all()).map_err(Error::io("write", &scratch))?;
        fs::rename(&scratch, &path).map_err(Error::io("rename a file to", &path))?;
        sync_folder_of(&path)
    }

    /// Whether there is any blob.
    pub(crate) fn any(&self) -> Result<bool> {
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

    fn tmp(&self) -> PathBuf {
        self.shared.root.join("tmp")
    }

    fn uploads(&self) -> PathBuf {
        self.shared.root.join("uploads")
    }
}

fn is_identity(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Opened only if it is a plain file: whatever else lies there is not waited for, and not followed.
fn open_plain(path: &Path) -> io::Result<Option<(File, u64)>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let found = file.metadata()?;
    Ok(found.is_file().then_some((file, found.len())))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}
