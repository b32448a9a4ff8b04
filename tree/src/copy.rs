//! Copies files that a stranger left into a folder where a person can look at them.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, openat, readlinkat};

use crate::walk::{WalkEntry, walk};

/// Copies files, links and folders below the open folder `top` into the folder `to`, which must not exist. Leaves out
/// devices, pipes and sockets, and everything so deep that its path below `to` would be too long. The caller owns the
/// copy; of a file's mode, the copy keeps only whether it is executable. Copying more than `most` bytes is an error.
pub fn copy(top: impl AsFd, to: &Path, most: u64) -> io::Result<()> {
    fs::create_dir(to)?;
    let mut left = most;
    walk(top, &mut |entry| {
        let Some(target) = place(to, entry) else { return Ok(()) };
        match FileType::from_raw_mode(entry.stat.st_mode) {
            FileType::Directory => unless_too_long(fs::create_dir(&target)),
            FileType::Symlink => {
                let link = readlinkat(entry.folder, entry.name, Vec::new())?;
                unless_too_long(symlink(OsStr::from_bytes(link.as_bytes()), &target))
            }
            FileType::RegularFile => unless_too_long(file(entry, &target, &mut left)),
            _ => Ok(()),
        }
    })?;
    Ok(())
}

fn place(to: &Path, entry: &WalkEntry<'_>) -> Option<PathBuf> {
    let part = |name: &CStr| OsStr::from_bytes(name.to_bytes()).to_owned();
    let mut target = to.to_owned();
    target.extend(entry.above?.iter().map(|name| part(name)));
    target.push(part(entry.name));
    Some(target)
}

fn unless_too_long(result: io::Result<()>) -> io::Result<()> {
    match result {
        // The path of its folder was too long already.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidFilename | io::ErrorKind::NotFound) => {
            Ok(())
        }
        other => other,
    }
}

fn file(entry: &WalkEntry<'_>, target: &Path, left: &mut u64) -> io::Result<()> {
    // The file may have become a link or a pipe since it was listed.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = File::from(openat(entry.folder, entry.name, flags, Mode::empty())?);
    if !from.metadata()?.is_file() {
        return Ok(());
    }
    let mut into = File::create_new(target)?;
    let copied = io::copy(&mut io::Read::take(&from, left.saturating_add(1)), &mut into)?;
    *left = left.checked_sub(copied).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    if entry.stat.st_mode & 0o111 != 0 {
        rustix::fs::fchmod(&into, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}
