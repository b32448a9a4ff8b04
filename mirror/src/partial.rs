//! Partly fetched files; only one process at a time works on each.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::{FileToFetch, Keep, MirrorError, Observer};

/// A partly fetched file, locked as long as this value lives.
pub(crate) struct Partial {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

impl Partial {
    /// Opens and locks the partly fetched file of `wanted`. The digest is its name, so another process that fetches the
    /// same file finds the lock and waits.
    pub(crate) fn open(
        wanted: &FileToFetch,
        keep: &dyn Keep,
        observer: &dyn Observer,
    ) -> Result<Self, MirrorError> {
        let path = keep.partial().join(wanted.digest.hex());
        let mut told = false;
        loop {
            let file = open_partial(&path)?;
            match file.try_lock() {
                // The locked file may have been removed meanwhile, and another file may have its name.
                Ok(()) if is_at(&file, &path)? => return Ok(Self { file, path }),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if observer.cancelled() => {
                    return Err(MirrorError::Cancelled { what: wanted.what.clone() });
                }
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        observer.note(&format!("{} is being fetched by another process", wanted.what));
                        told = true;
                    }
                    thread::sleep(Duration::from_millis(100));
                }
                Err(TryLockError::Error(source)) => return Err(MirrorError::Io { path, source }),
            }
        }
    }

    pub(crate) fn len(&self) -> Result<u64, MirrorError> {
        Ok(self.file.metadata().map_err(MirrorError::io(&self.path))?.len())
    }

    pub(crate) fn remove(&self) -> Result<(), MirrorError> {
        fs::remove_file(&self.path).map_err(MirrorError::io(&self.path))
    }
}

/// Whether `path` still names the open file `file`.
fn is_at(file: &File, path: &Path) -> Result<bool, MirrorError> {
    let here = file.metadata().map_err(MirrorError::io(path))?;
    match fs::metadata(path) {
        Ok(there) => Ok((here.dev(), here.ino()) == (there.dev(), there.ino())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(MirrorError::io(path)(e)),
    }
}

fn open_partial(path: &Path) -> Result<File, MirrorError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(MirrorError::io(folder))?;
    }
    OpenOptions::new().read(true).append(true).create(true).open(path).map_err(MirrorError::io(path))
}
