//! Files that are whole or not there, reads with a limit, and locks that can be given up.
//!
//! Layer: ground; knows no room. In scope: [`replace`], [`read`] and [`lock`]. Out of scope: whether a file may be
//! believed (`hab-trusted-file`), and bytes by their digest (`hab-blobs`).

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How often [`lock`] looks whether it is its turn, and whether to give up.
const TICK: Duration = Duration::from_millis(100);

/// A file was not written, read or locked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system says no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// It has more bytes than are read.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How many are read.
        limit: u64,
    },
}

impl Error {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// The path, and the system's words where it said some.
    pub fn into_io(self) -> (PathBuf, io::Error) {
        match self {
            Self::Io { path, source, .. } => (path, source),
            Self::TooLarge { ref path, .. } => {
                (path.clone(), io::Error::new(io::ErrorKind::FileTooLarge, self))
            }
        }
    }
}

/// Writes a file beside its place and renames it there, so that a kill, a power failure or a full disk leaves the old
/// file, and nobody ever reads half of the new one. `mode` is the file's; `write` writes it, and may read back.
pub fn replace<T>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> Result<T, io::Error>,
) -> Result<T, Error> {
    let folder = folder_of(path);
    let (beside, written) = beside(path, mode, write)?;
    beside.as_file().sync_all().map_err(Error::io("write", path))?;
    beside.persist(path).map_err(|e| Error::io("rename a file to", path)(e.error))?;
    // A rename is on the disk only when its folder is.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("write", folder))?;
    Ok(written)
}

/// [`replace`] with these bytes, without waiting for the disk: a power failure may leave an empty file. For files that
/// cost only time when they are lost.
pub fn replace_unsynced(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Error> {
    let (beside, ()) = beside(path, mode, |file| file.write_all(bytes))?;
    beside.persist(path).map_err(|e| Error::io("rename a file to", path)(e.error))?;
    Ok(())
}

/// A file beside its place, written and with its mode.
fn beside<T>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> Result<T, io::Error>,
) -> Result<(tempfile::NamedTempFile, T), Error> {
    let folder = folder_of(path);
    let mut beside = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("make a file in", folder))?;
    let written = write(beside.as_file_mut()).map_err(Error::io("write", path))?;
    let mode = Permissions::from_mode(mode);
    beside.as_file().set_permissions(mode).map_err(Error::io("set the mode of", path))?;
    Ok((beside, written))
}

/// [`replace`] with these bytes.
pub fn replace_with(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Error> {
    replace(path, mode, |file| file.write_all(bytes))
}

/// The whole of a file; an error if it has more than `limit` bytes. A pipe or a device is read only up to there.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Locks the file at `path`, which is made where it is missing, against every other process and every other caller.
/// While somebody else has the lock `wait` is asked ten times a second whether to go on waiting; `None` when it says
/// no. The lock goes with the file.
pub fn lock(path: &Path, mut wait: impl FnMut() -> bool) -> Result<Option<File>, Error> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(Error::io("open", path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            // A lock that waits in the kernel would not hear a request to stop.
            Err(TryLockError::WouldBlock) if wait() => thread::sleep(TICK),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", path)(e)),
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        replace_with(&path, 0o644, b"one").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        let failed = replace(&path, 0o600, |file| {
            file.write_all(b"tw")?;
            Err::<(), _>(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().to_string(), format!("cannot write {}", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!(replace(&path, 0o600, |_| Ok(7)).unwrap(), 7);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        replace_unsynced(&path, 0o640, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert!(replace_with(&folder.path().join("none/f"), 0o600, b"").is_err());
    }

    #[test]
    fn no_more_is_read_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, b"four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        assert!(matches!(read(&path, 3), Err(Error::TooLarge { limit: 3, .. })));
        assert!(matches!(read(Path::new("/dev/zero"), 1 << 16), Err(Error::TooLarge { .. })));
        let missing = read(&folder.path().join("none"), 4).unwrap_err();
        assert_eq!(missing.into_io().1.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_lock_is_waited_for_as_long_as_the_caller_wants() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock(&path, || false).unwrap().unwrap();
        assert!(lock(&path, || false).unwrap().is_none());
        let mut asked = 0;
        let given_up = lock(&path, || {
            asked += 1;
            asked < 3
        });
        assert!(given_up.unwrap().is_none() && asked == 3);
        let mut held = Some(held);
        let taken = lock(&path, || {
            drop(held.take());
            true
        });
        assert!(taken.unwrap().is_some());
    }
}
