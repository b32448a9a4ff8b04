//! The second copy of a root: the same files, other inodes.
//!
//! A file's inode number and its times of creation and last change come from the disk below the overlay, and only
//! another file has other ones. The copy takes its space once, and costs a build nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps, utimensat};

use super::tree::{RootEntry, Tree};

/// Copies `tree`, which was read from `from`, to `to`, which must not exist. Both lie in a private folder.
pub(super) fn copy(tree: &Tree, from: &Path, to: &Path, cancel: &AtomicBool) -> io::Result<()> {
    let place = |folder: &Path, seen: &RootEntry| -> PathBuf {
        if seen.path.is_empty() {
            folder.to_owned()
        } else {
            folder.join(std::ffi::OsStr::from_bytes(&seen.path))
        }
    };
    for folder in tree.entries.iter().filter(|seen| seen.kind().is_dir()) {
        fs::create_dir(place(to, folder))?;
    }
    let mut linked: BTreeMap<u64, PathBuf> = BTreeMap::new();
    // Copy backwards, so that a file system that lists files by age lists them in another order.
    for seen in tree.entries.iter().rev() {
        if cancel.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let (source, path) = (place(from, seen), place(to, seen));
        match seen.kind() {
            FileType::Directory => continue,
            FileType::Symlink => symlink(fs::read_link(&source)?, &path)?,
            FileType::RegularFile => {
                if let Some(first) = linked.get(&seen.stat.st_ino) {
                    fs::hard_link(first, &path)?;
                    continue;
                }
                // This shares blocks if the file system can.
                io::copy(&mut File::open(&source)?, &mut File::create_new(&path)?)?;
                if seen.stat.st_nlink > 1 {
                    linked.insert(seen.stat.st_ino, path.clone());
                }
            }
            _ => return Err(io::Error::other(format!("{} is not a file", source.display()))),
        }
        dress(seen, &path)?;
    }
    // A folder comes after its entries, because making them changes its time.
    tree.entries
        .iter()
        .rev()
        .filter(|seen| seen.kind().is_dir())
        .try_for_each(|seen| dress(seen, &place(to, seen)))
}

fn dress(seen: &RootEntry, path: &Path) -> io::Result<()> {
    let stat = &seen.stat;
    std::os::unix::fs::lchown(path, Some(stat.st_uid), Some(stat.st_gid))?;
    if !seen.kind().is_symlink() {
        fs::set_permissions(path, Permissions::from_mode(stat.st_mode & 0o7777))?;
    }
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
