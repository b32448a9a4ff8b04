//! Creates entries below a root, never through a symbolic link.
//!
//! A parent is opened with openat2(2) and RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS, relative to
//! the root's descriptor; the entry itself is one component below that, created with O_EXCL. Nothing is ever
//! overwritten, so a link that exists cannot redirect a write.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use hab_oci::{Algorithm, Digest, Hasher};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, fchmod, fchown, futimens, linkat,
    mkdirat, openat, openat2, readlinkat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::claims::{Claims, Duplicate, Node, Turn};
use super::name::split;
use super::{NameProblem, Options, UnpackError, shown};

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// Creates one archive's entries in the root.
pub(super) struct Placer<'a> {
    root: BorrowedFd<'a>,
    claims: &'a Claims<'a>,
    options: &'a Options,
    archive: usize,
    /// The parent used last, because the entries of a directory mostly follow each other.
    last: Option<(Vec<u8>, OwnedFd)>,
}

/// A regular file that is being filled.
pub(super) enum Sink {
    /// The file is new.
    New { fd: OwnedFd, mtime: i64, executable: bool },
    /// The file exists: its content is only hashed, and compared at the end.
    Known { hasher: Box<Hasher>, mtime: i64, executable: bool },
}

impl<'a> Placer<'a> {
    pub(super) fn new(
        root: BorrowedFd<'a>,
        claims: &'a Claims<'a>,
        options: &'a Options,
        archive: usize,
    ) -> Self {
        Self { root, claims, options, archive, last: None }
    }

    fn name(&self) -> String {
        self.claims.name(self.archive).to_owned()
    }

    /// Turns the system's error for `path` into ours.
    fn refused(&self, path: &[u8], errno: Errno) -> UnpackError {
        let (archive, entry) = (self.name(), shown(path));
        match errno {
            Errno::LOOP | Errno::XDEV => UnpackError::ThroughLink { archive, entry },
            Errno::NAMETOOLONG => UnpackError::Name { archive, entry, problem: NameProblem::TooLong },
            Errno::NOTDIR | Errno::EXIST => {
                let other = self.claims.name(super::claims::BEFORE).to_owned();
                UnpackError::Conflict { archive, other, entry }
            }
            errno => UnpackError::Write { archive, entry, source: errno.into() },
        }
    }

    /// Makes the directory `path` and those above it that are missing.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        self.parent(path, path).map(drop)
    }

    /// The descriptor of directory `path`, which is made if it is missing; `entry` is for errors.
    fn parent(&mut self, path: &[u8], entry: &[u8]) -> Result<BorrowedFd<'_>, UnpackError> {
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let fd = self.open_directory(path, entry)?;
            self.last = Some((path.to_vec(), fd));
        }
        match &self.last {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Ok(self.root),
        }
    }

    fn open_directory(&self, path: &[u8], entry: &[u8]) -> Result<OwnedFd, UnpackError> {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let ancestor = &path[..end];
            match self.claims.claim(self.archive, ancestor, Node::Directory) {
                Ok(_) => {}
                // openat2 finds the same mistake, so the error must be the same, whichever worker was first.
                Err(_)
                    if matches!(self.claims.at(ancestor).map(|c| c.node), Some(Node::Link(_)))
                        && ancestor != entry =>
                {
                    return Err(UnpackError::ThroughLink { archive: self.name(), entry: shown(entry) });
                }
                Err(e) => return Err(e),
            }
        }
        let open = |path: &[u8]| {
            let path = if path.is_empty() { b"." } else { path };
            openat2(
                self.root,
                OsStr::from_bytes(path),
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
                RESOLVE,
            )
        };
        match open(path) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(|e| self.refused(entry, e)),
        }
        let (above, name) = split(path);
        let above = self.open_directory(above, entry)?;
        match mkdirat(&above, OsStr::from_bytes(name), DIRECTORY) {
            Ok(()) | Err(Errno::EXIST) => open(path).map_err(|e| self.refused(entry, e)),
            Err(e) => Err(self.refused(entry, e)),
        }
    }

    /// Begins the file `path`.
    pub(super) fn file(&mut self, path: &[u8], mtime: i64, executable: bool) -> Result<Sink, UnpackError> {
        let known = || Sink::Known { hasher: Box::new(Hasher::new(Algorithm::Sha256)), mtime, executable };
        let mtime = mtime.min(self.options.epoch);
        let (above, name) = split(path);
        self.parent(above, path)?;
        if self.claims.claim(self.archive, path, Node::File { executable })? != Turn::Create {
            return Ok(known());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(self.parent(above, path)?, OsStr::from_bytes(name), flags, Mode::from_raw_mode(0o644)) {
            Ok(fd) => Ok(Sink::New { fd, mtime, executable }),
            Err(Errno::EXIST) => {
                self.claims.was_before(path);
                Ok(known())
            }
            Err(e) => Err(self.refused(path, e)),
        }
    }

    /// Adds content to a file.
    pub(super) fn write(&self, sink: &mut Sink, path: &[u8], mut bytes: &[u8]) -> Result<(), UnpackError> {
        match sink {
            Sink::Known { hasher, .. } => hasher.update(bytes),
            Sink::New { fd, .. } => {
                while !bytes.is_empty() {
                    match rustix::io::write(&*fd, bytes) {
                        Ok(n) => bytes = &bytes[n..],
                        Err(Errno::INTR) => {}
                        Err(e) => return Err(self.refused(path, e)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends a file: sets its mode, owner and time.
    pub(super) fn finish(&self, sink: Sink, path: &[u8]) -> Result<(), UnpackError> {
        match sink {
            Sink::New { fd, mtime, executable } => self
                .dress(fd.as_fd(), if executable { 0o755 } else { 0o644 }, mtime)
                .map_err(|e| self.refused(path, e)),
            Sink::Known { hasher, mtime, executable } => {
                let (path, archive, digest) = (path.to_vec(), self.archive, hasher.finish());
                self.claims.duplicate(Duplicate { path, archive, mtime, executable, digest });
                Ok(())
            }
        }
    }

    fn dress(&self, fd: BorrowedFd<'_>, mode: u32, mtime: i64) -> Result<(), Errno> {
        if let Some((uid, gid)) = self.options.owner {
            fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        // The mode must not depend on the umask, which belongs to the process.
        fchmod(fd, Mode::from_raw_mode(mode))?;
        futimens(fd, &times(mtime))
    }

    /// Makes the symbolic link `path`.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let rebased = self.options.relative_links.then(|| relative(path, target)).flatten();
        let target = rebased.as_deref().unwrap_or(target);
        if target.is_empty() || target.contains(&0) {
            let problem = if target.is_empty() { NameProblem::Empty } else { NameProblem::Nul };
            return Err(UnpackError::Name { archive: self.name(), entry: shown(path), problem });
        }
        let (above, name) = split(path);
        self.parent(above, path)?;
        if self.claims.claim(self.archive, path, Node::Link(target.to_vec()))? == Turn::Exists {
            return Ok(());
        }
        let (owner, epoch) = (self.options.owner, self.options.epoch);
        let name = OsStr::from_bytes(name);
        let parent = self.parent(above, path)?;
        let made = symlinkat(OsStr::from_bytes(target), parent, name).and_then(|()| {
            if let Some((uid, gid)) = owner {
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            utimensat(parent, name, &times(epoch), AtFlags::SYMLINK_NOFOLLOW)
        });
        match made {
            Err(Errno::EXIST)
                if readlinkat(parent, name, Vec::new()).is_ok_and(|t| t.as_bytes() == target) =>
            {
                Ok(())
            }
            other => other.map_err(|e| self.refused(path, e)),
        }
    }

    /// Makes the hard link `path` to `target`, a file that the same archive has put there before.
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let refused =
            UnpackError::HardLink { archive: self.name(), entry: shown(path), target: shown(target) };
        let ours = |c: &super::claims::Claim| {
            c.archive == self.archive && !matches!(c.node, Node::Directory | Node::Link(_))
        };
        if !self.claims.at(target).as_ref().is_some_and(ours) {
            return Err(refused);
        }
        let (target_above, target_name) = split(target);
        let from = self.open_directory(target_above, path)?;
        let (above, name) = split(path);
        self.parent(above, path)?;
        if self.claims.claim(self.archive, path, Node::HardLink(target.to_vec()))? == Turn::Exists {
            return Ok(());
        }
        let to = self.parent(above, path)?;
        linkat(from, OsStr::from_bytes(target_name), to, OsStr::from_bytes(name), AtFlags::empty())
            .map_err(|e| self.refused(path, e))
    }

    /// The last step: compares files that came twice, and sets the mode, owner and time of directories.
    pub(super) fn complete(&mut self) -> Result<(), UnpackError> {
        for duplicate in self.claims.duplicates() {
            self.compare(&duplicate)?;
        }
        for path in self.claims.directories() {
            // Not O_PATH, because this changes the directory and not a reference to it.
            let shown_path: &[u8] = if path.is_empty() { b"." } else { &path };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat2(self.root, OsStr::from_bytes(shown_path), flags, Mode::empty(), RESOLVE)
                .and_then(|fd| self.dress(fd.as_fd(), 0o755, self.options.epoch))
                .map_err(|e| self.refused(&path, e))?;
        }
        Ok(())
    }

    fn compare(&mut self, duplicate: &Duplicate) -> Result<(), UnpackError> {
        let path = &duplicate.path;
        let Some(first) = self.claims.at(path) else { return Ok(()) };
        let conflict = || self.claims.conflict(first.archive, duplicate.archive, path);
        let Node::File { executable } = first.node else { return Err(conflict()) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat2(self.root, OsStr::from_bytes(path), flags, Mode::empty(), RESOLVE)
            .map_err(|e| self.refused(path, e))?;
        let file = std::fs::File::from(fd);
        let write =
            |source: io::Error| UnpackError::Write { archive: self.name(), entry: shown(path), source };
        if !file.metadata().map_err(write)?.is_file() {
            return Err(conflict());
        }
        let (digest, _) = Digest::of_reader(&file).map_err(write)?;
        if digest != duplicate.digest || executable != duplicate.executable {
            return Err(conflict());
        }
        // The time is that of the archive with the lowest number, whichever worker wrote the file.
        if duplicate.archive < first.archive {
            self.claims.hand_over(duplicate);
            futimens(&file, &times(duplicate.mtime)).map_err(|e| self.refused(path, e))?;
        }
        Ok(())
    }
}

/// An absolute target as it reads from the link at `path`, both below one root; `None` if the target is relative.
fn relative(path: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let below = target.strip_prefix(b"/")?;
    let up = path.split(|byte| *byte == b'/').count() - 1;
    Some([&b"../".repeat(up)[..], below].concat())
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
