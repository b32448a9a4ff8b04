//! What is done to files and folders here and there.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// How much is written before the disk begins with it.
const AHEAD: u64 = 8 << 20;

/// Has the system begin to write what it holds back of a growing file, so that the sync at its end has little left to wait for.
pub(crate) fn write_ahead(file: &File, before: u64, now: u64) {
    let (from, to) = (before / AHEAD * AHEAD, now / AHEAD * AHEAD);
    if let Some(length) = NonZeroU64::new(to - from) {
        // Of what is not written yet this advice begins the writing, and keeps it: only what is clean is dropped. That it is
        // not taken harms nothing.
        let _ = rustix::fs::fadvise(file, from, Some(length), rustix::fs::Advice::DontNeed);
    }
}

/// Opened only if it is a plain file: whatever else lies there is not waited for, and not followed.
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

/// Removes a file; that there is none is no error.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Makes the folder that a blob belongs into.
pub fn ensure_folder_of(target: &Path) -> Result<()> {
    let Some(folder) = target.parent() else { return Ok(()) };
    match fs::create_dir(folder) {
        Ok(()) => sync_folder_of(folder),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::io("create", folder)(e)),
    }
}

/// A rename is on disk only when its folder is. Also done for a blob that was there already: the one who renamed it
/// may not have come this far.
pub fn sync_folder_of(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("write", folder))
}
