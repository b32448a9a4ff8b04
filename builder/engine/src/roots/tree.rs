//! The content of a root, as a manifest and as a stamp.
//!
//! The **manifest** has a line for every file: kind, mode, time, size, sha256, target, path. It is the same on every
//! machine. The **stamp** is a digest over the results of stat(2) for every file, with its inode number and the time of
//! its last change, which only the kernel sets. While the stamp is the same, so is the manifest. A stamp needs no
//! reading of files, so it is computed before and after every use.
//!
//! Every name is looked up from the root's own descriptor and never through a link.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hab_oci::{Algorithm, Digest, Hasher};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, open, openat2, readlinkat, statat,
};

/// The most entries: more than any toolchain has, fewer than fill the memory, because a root may have been tampered
/// with.
const ENTRIES: usize = 1_000_000;

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// One file, folder or link.
pub(super) struct RootEntry {
    /// The path below the root; empty for the root itself.
    pub path: Vec<u8>,
    pub stat: Stat,
}

impl RootEntry {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// The metadata of a root's files, read once.
pub(super) struct Tree {
    folder: OwnedFd,
    /// All entries, sorted by path.
    pub entries: Vec<RootEntry>,
}

impl Tree {
    /// Reads the metadata of everything below `root`.
    pub(super) fn look(root: &Path, cancel: &AtomicBool) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = open(root, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&folder)?;
        let mut entries = vec![RootEntry { path: Vec::new(), stat }];
        let mut waiting = vec![Vec::new()];
        while let Some(path) = waiting.pop() {
            if cancel.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let list = below(folder.as_fd(), &path, OFlags::DIRECTORY)?;
            for entry in Dir::read_from(&list)? {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let stat = statat(&list, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let path = if path.is_empty() {
                    name.to_bytes().to_vec()
                } else {
                    [&path, b"/".as_slice(), name.to_bytes()].concat()
                };
                if FileType::from_raw_mode(stat.st_mode).is_dir() {
                    waiting.push(path.clone());
                }
                entries.push(RootEntry { path, stat });
                if entries.len() > ENTRIES {
                    return Err(io::Error::other(format!("it has more than {ENTRIES} files")));
                }
            }
        }
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { folder, entries })
    }

    /// One digest over the results of stat(2) for all entries.
    pub(super) fn stamp(&self) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for RootEntry { path, stat } in &self.entries {
            hasher.update(path);
            hasher.update(&[0]);
            for number in [u64::from(stat.st_mode), stat.st_uid.into(), stat.st_gid.into(), stat.st_ino] {
                hasher.update(&number.to_le_bytes());
            }
            hasher.update(&stat.st_nlink.to_le_bytes());
            hasher.update(&stat.st_size.to_le_bytes());
            for (seconds, nanoseconds) in
                [(stat.st_mtime, stat.st_mtime_nsec), (stat.st_ctime, stat.st_ctime_nsec)]
            {
                hasher.update(&seconds.to_le_bytes());
                hasher.update(&nanoseconds.to_le_bytes());
            }
        }
        hasher.finish()
    }

    /// The manifest. Reads every file, on every core.
    pub(super) fn manifest(&self, cancel: &AtomicBool) -> io::Result<String> {
        let next = AtomicUsize::new(0);
        // Guards the lines that are finished, each with its place; held for one push.
        let lines = Mutex::new(Vec::with_capacity(self.entries.len()));
        // Guards the first error that a worker met.
        let failed = Mutex::new(None);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(seen) = self.entries.get(at) else { break };
                if cancel.load(Ordering::Relaxed) {
                    break;
                }
                match self.line(seen) {
                    Ok(line) => lines.lock().unwrap_or_else(PoisonError::into_inner).push((at, line)),
                    Err(error) => {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        next.store(self.entries.len(), Ordering::Relaxed);
                    }
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        if cancel.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let mut lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
        lines.sort_unstable();
        Ok(lines.into_iter().map(|(_, line)| line).collect())
    }

    fn line(&self, seen: &RootEntry) -> io::Result<String> {
        let RootEntry { path, stat } = seen;
        let (mode, time) = (stat.st_mode & 0o7777, stat.st_mtime);
        let shown = escaped(path);
        Ok(match seen.kind() {
            FileType::Directory => format!("folder {mode:o} {time} {shown}\n"),
            FileType::Symlink => {
                let parent = below(self.folder.as_fd(), above(path), OFlags::DIRECTORY)?;
                let target = readlinkat(&parent, OsStr::from_bytes(last(path)), Vec::new())?;
                format!("link {time} {} {shown}\n", escaped(target.as_bytes()))
            }
            FileType::RegularFile => {
                // NONBLOCK, because the file may have become a pipe meanwhile.
                let file = File::from(below(self.folder.as_fd(), path, OFlags::NONBLOCK)?);
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                // One byte more shows that the file grew.
                let (digest, read) = Digest::of_reader(file.take(size.saturating_add(1)))?;
                format!("file {mode:o} {time} {read} {digest} {shown}\n")
            }
            // A root has no special files, because unpacking skips them.
            _ => format!("special {:o} {shown}\n", stat.st_mode),
        })
    }
}

/// Opens a file or folder below a root for reading.
pub(super) fn below(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat2(root, OsStr::from_bytes(path), flags, Mode::empty(), RESOLVE)?)
}

fn above(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&[], |at| &path[..at])
}

fn last(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[at + 1..])
}

/// Escapes a name, so that it is one word on one line.
fn escaped(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name {
        if byte.is_ascii_graphic() && *byte != b'%' {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

/// Describes the first difference between two manifests, by its path.
pub(super) fn first_difference(expected: &str, actual: &str) -> String {
    let path = |line: &str| line.rsplit(' ').next().unwrap_or_default().to_owned();
    let mut lines = (expected.lines(), actual.lines());
    loop {
        match (lines.0.next(), lines.1.next()) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => {
                let (a, b) = (path(a), path(b));
                return match a.cmp(&b) {
                    Equal => format!("{a} is not what was unpacked"),
                    Less => format!("{a} is missing"),
                    Greater => format!("{b} was added later"),
                };
            }
            (Some(a), None) => return format!("{} is missing", path(a)),
            (None, Some(b)) => return format!("{} was added later", path(b)),
            (None, None) => return "nothing".to_owned(),
        }
    }
}
