//! Opens a folder by its name in another folder, and refuses anything else in its place.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, chmodat, fstat, openat, statat};
use rustix::io::Errno;
use rustix::path::Arg;

/// The number of levels whose descriptors stay open at one time.
pub(crate) const DEPTH: usize = 32;

/// Whether to make a folder readable before it is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Leave the folder's mode as it is.
    Leave,
    /// Give the folder's owner every permission.
    OpenUp,
}

/// Opens the folder `name` in `parent`; fails with `ENOTDIR` or `ELOOP` if something else is there.
pub(crate) fn folder(parent: impl AsFd, name: impl Arg + Copy, closed: Closed) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if closed == Closed::OpenUp {
        // O_PATH needs no permission on the folder itself, so its mode can be asked for before it can be read.
        let place = openat(&parent, name, flags | OFlags::PATH, Mode::empty())?;
        let mode = Mode::from_raw_mode(fstat(&place)?.st_mode);
        if !mode.contains(Mode::RWXU) {
            // By its descriptor: a link that took the folder's name meanwhile cannot redirect the change.
            let by_descriptor = format!("/proc/self/fd/{}", place.as_raw_fd());
            match chmodat(CWD, by_descriptor, mode | Mode::RWXU, AtFlags::empty()) {
                // The folder belongs to somebody else: opening it below fails if it is not readable.
                Ok(()) | Err(Errno::PERM | Errno::ROFS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        return Ok(openat(&place, c".", OFlags::RDONLY | flags, Mode::empty())?);
    }
    Ok(openat(parent, name, OFlags::RDONLY | flags, Mode::empty())?)
}

/// The names in a folder, without `.` and `..`.
pub(crate) fn names(folder: impl AsFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// What is at `name`: the link itself, not its target. `None` if it vanished.
pub(crate) fn stat(folder: impl AsFd, name: &CStr) -> io::Result<Option<Stat>> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}
