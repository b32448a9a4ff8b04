//! Opens and walks a folder that a build owned, without leaving it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use hab_oci::deceives;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat};
use rustix::io::Errno;

use super::{CompareError, NameProblem, TreeLimits};

/// The most bytes of a component, the kernel's own limit.
const COMPONENT: usize = 255;
/// The most bytes of a path, the kernel's own limit: one less than PATH_MAX, for the zero byte.
pub(super) const PATH: usize = 4095;
/// Follows no link, wherever it stands in a path.
const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// Opening never waits for the other end of a fifo.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder, held by its descriptor: another one that is put in its place later is not read.
#[derive(Debug)]
pub struct Folder(OwnedFd);

/// An entry that a walk finds. A directory that is not empty is implied by its entries.
pub(super) enum Found {
    /// A regular file.
    File {
        size: u64,
        executable: bool,
        /// Device and inode number of a file with several names, of which some may lie elsewhere.
        identity: Option<(u64, u64)>,
    },
    /// A symbolic link with its target.
    Link(String),
    /// An empty directory.
    Empty,
}

impl Folder {
    /// Opens the folder at `path`; a link in its place is an error. The caller must own the folders that lead there.
    pub fn open(path: &Path) -> Result<Self, CompareError> {
        match rustix::fs::open(path, READ | OFlags::DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Self(fd)),
            // A build owns the folder above and may have put anything in its place.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Err(CompareError::NoFolder),
            Err(e) => Err(CompareError::Read { path: ".".to_owned(), source: e.into() }),
        }
    }

    /// Opens a regular file below the folder, never through a link.
    pub fn file(&self, path: &str) -> io::Result<File> {
        let file = File::from(openat2(&self.0, path, READ, Mode::empty(), RESOLVE)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Opens `path` as a process with this folder as its root would: it follows links, but not out of the folder.
    pub(super) fn in_root(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(File::from(openat2(&self.0, path, flags, Mode::empty(), resolve)?))
    }

    /// Calls `meet` for every entry below, in no particular order. It does not recurse, because a folder can be as deep
    /// as a path is long.
    pub(super) fn walk(
        &self,
        limits: &TreeLimits,
        meet: &mut dyn FnMut(String, Found) -> Result<(), CompareError>,
    ) -> Result<(), CompareError> {
        let mut count = Count { limits, entries: 0, names: 0, bytes: 0, seen: BTreeSet::new() };
        let mut waiting = vec![String::new()];
        while let Some(folder) = waiting.pop() {
            let read = |e: Errno| CompareError::Read { path: folder.clone(), source: e.into() };
            let place = if folder.is_empty() { "." } else { &folder };
            let opened =
                openat2(&self.0, place, READ | OFlags::DIRECTORY, Mode::empty(), RESOLVE).map_err(read)?;
            let mut empty = true;
            for child in Dir::read_from(&opened).map_err(read)? {
                let child = child.map_err(read)?;
                let name = child.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                empty = false;
                let path = below(&folder, name)?;
                count.entry(path.len())?;
                match look(&opened, name, &path, &mut count)? {
                    Some(found) => meet(path, found)?,
                    None => waiting.push(path),
                }
            }
            if empty && !folder.is_empty() {
                meet(folder, Found::Empty)?;
            }
        }
        Ok(())
    }
}

/// The entry with a name; `None` for a directory.
fn look(
    above: &OwnedFd,
    name: &[u8],
    path: &str,
    count: &mut Count<'_>,
) -> Result<Option<Found>, CompareError> {
    let read = |e: Errno| CompareError::Read { path: path.to_owned(), source: e.into() };
    let name = OsStr::from_bytes(name);
    let stat = statat(above.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).map_err(read)?;
    let mode = stat.st_mode & 0o7777;
    // Root can read all files, but the worker is not root, and its answer must not depend on who it is.
    let readable = |bits: u32| {
        let unreadable = || CompareError::Unreadable { path: path.to_owned(), mode };
        if mode & bits == bits { Ok(()) } else { Err(unreadable()) }
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => readable(0o500).map(|()| None),
        FileType::Symlink => {
            let target = readlinkat(above, name, Vec::new()).map_err(read)?;
            let target = target_of(path, target.as_bytes())?;
            count.names(target.len())?;
            Ok(Some(Found::Link(target)))
        }
        FileType::RegularFile => {
            if mode & 0o6000 != 0 {
                return Err(CompareError::SetId { path: path.to_owned(), mode });
            }
            readable(0o400)?;
            let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
            let identity = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
            if identity.is_none_or(|file| count.seen.insert(file)) {
                count.bytes(size)?;
            }
            Ok(Some(Found::File { size, executable: mode & 0o111 != 0, identity }))
        }
        _ => Err(CompareError::Special { path: path.to_owned() }),
    }
}

/// The totals of a walk so far; they are checked against the limits before an entry is stored.
struct Count<'a> {
    limits: &'a TreeLimits,
    entries: usize,
    names: usize,
    bytes: u64,
    /// The files with several names that were found.
    seen: BTreeSet<(u64, u64)>,
}

impl Count<'_> {
    fn entry(&mut self, path: usize) -> Result<(), CompareError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(CompareError::TooManyEntries { limit: self.limits.entries });
        }
        self.names(path)
    }

    fn names(&mut self, bytes: usize) -> Result<(), CompareError> {
        self.names = self.names.saturating_add(bytes);
        if self.names > self.limits.names {
            return Err(CompareError::TooManyNames { limit: self.limits.names });
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: u64) -> Result<(), CompareError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes {
            return Err(CompareError::TooManyBytes { limit: self.limits.bytes });
        }
        Ok(())
    }
}

/// The path of `name` in `folder`, if an image may have it.
fn below(folder: &str, name: &[u8]) -> Result<String, CompareError> {
    let text = String::from_utf8_lossy(name);
    let path = if folder.is_empty() { text.into_owned() } else { format!("{folder}/{text}") };
    let problem = match str::from_utf8(name) {
        Err(_) => Some(NameProblem::NotText),
        Ok(name) => component(name).err(),
    };
    match problem {
        Some(problem) => Err(CompareError::Name { path, problem }),
        None if path.len() > PATH => Err(CompareError::Name { path, problem: NameProblem::TooLong }),
        None => Ok(path),
    }
}

/// Whether an image may have a file of this name.
fn component(name: &str) -> Result<(), NameProblem> {
    match name {
        "" | "." | ".." => Err(NameProblem::NoPath),
        _ if name.contains(deceives) => Err(NameProblem::Deceives),
        _ if name.trim() != name => Err(NameProblem::Space),
        _ if name.starts_with(".wh.") => Err(NameProblem::Whiteout),
        _ if name.len() > COMPONENT => Err(NameProblem::TooLong),
        _ => Ok(()),
    }
}

/// Whether an image may have a file at this path.
pub(super) fn check_path(path: &str) -> Result<(), NameProblem> {
    if path.len() > PATH {
        return Err(NameProblem::TooLong);
    }
    path.split('/').try_for_each(component)
}

/// A link's target as text, if an image may have it.
fn target_of(path: &str, target: &[u8]) -> Result<String, CompareError> {
    let text = String::from_utf8_lossy(target).into_owned();
    let problem = if str::from_utf8(target).is_err() {
        Some(NameProblem::NotText)
    } else {
        check_target(path, &text).err()
    };
    match problem {
        Some(problem) => Err(CompareError::Target { path: path.to_owned(), target: text, problem }),
        None => Ok(text),
    }
}

/// Whether the link at `path` may point at `target`. In a container, a target with too many `..` ends at the root; in
/// other programs that unpack an image it may not.
pub(super) fn check_target(path: &str, target: &str) -> Result<(), NameProblem> {
    if target.is_empty() {
        return Err(NameProblem::NoPath);
    }
    if target.len() > PATH {
        return Err(NameProblem::TooLong);
    }
    if target.contains(deceives) {
        return Err(NameProblem::Deceives);
    }
    let mut depth = if target.starts_with('/') { 0 } else { path.matches('/').count() };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.checked_sub(1).ok_or(NameProblem::Outside)?,
            _ => depth += 1,
        }
    }
    Ok(())
}
