//! Operations on files and folders that several modules use.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Bytes after which the disk begins to write a growing file.
const AHEAD: u64 = 8 << 20;

/// Has the kernel begin to write the cached bytes of a growing file, so that the sync at its end waits for little.
pub(crate) fn write_ahead(file: &File, before: u64, now: u64) {
    let (from, to) = (before / AHEAD * AHEAD, now / AHEAD * AHEAD);
    if let Some(length) = NonZeroU64::new(to - from) {
        // On dirty pages this advice starts the write and keeps them in the cache; it drops only clean pages. A failure
        // is harmless.
        let _ = rustix::fs::fadvise(file, from, Some(length), rustix::fs::Advice::DontNeed);
    }
}

/// Opens a path only if it is a plain file: a pipe is not waited for, and a link is not followed.
pub(crate) fn open_plain(path: &Path) -> io::Result<Option<(File, u64)>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let found = file.metadata()?;
    Ok(found.is_file().then_some((file, found.len())))
}

/// Removes a file; a missing file is no error.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Makes the folder of a blob's file.
pub fn ensure_folder_of(target: &Path) -> Result<()> {
    let Some(folder) = target.parent() else { return Ok(()) };
    match fs::create_dir(folder) {
        Ok(()) => sync_folder_of(folder),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::io("create", folder)(e)),
    }
}

/// Syncs the folder of a path, because a rename is on disk only when its folder is synced. Needed also for a blob that
/// existed already: the process that renamed it may have died before it synced the folder.
pub fn sync_folder_of(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("write", folder))
}
