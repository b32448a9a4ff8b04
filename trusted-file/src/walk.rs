//! Walks to a file name by name, and checks each folder and link on the way.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open as open_path, openat, readlinkat};

use crate::{Error, Readers, Wrong};

/// The kernel's own limit.
const MOST_LINKS: usize = 40;
const WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// A folder on the way to the file.
struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    /// Others may put files into it, but not touch those of other users (the sticky bit).
    shared: bool,
}

struct Walk<'a> {
    /// The path that the caller asked for, for messages.
    asked: &'a Path,
    /// The user that this program runs as.
    us: u32,
    /// The folders from `/` down to the current one; `..` goes back to one that was checked already.
    folders: Vec<Folder>,
    waiting: VecDeque<OsString>,
    links: usize,
}

pub(crate) fn open(path: &Path, readers: Readers, us: u32) -> Result<File, Error> {
    // Start at `/`, for a relative path too: the owner of a folder controls everything below it.
    let absolute =
        std::path::absolute(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    // A path that ends with a slash or a dot names a folder.
    let text = absolute.as_os_str().as_encoded_bytes();
    if text.ends_with(b"/") || text.ends_with(b"/.") {
        return Err(Error::Refused { path: path.to_owned(), at: path.to_owned(), wrong: Wrong::Kind });
    }
    let mut walk = Walk { asked: path, us, folders: Vec::new(), waiting: VecDeque::new(), links: 0 };
    walk.go_first(&absolute)?;
    while let Some(name) = walk.waiting.pop_front() {
        if name == ".." {
            if walk.folders.len() > 1 {
                walk.folders.pop();
            }
        } else if let Some(file) = walk.step(&name, readers)? {
            return Ok(file);
        }
    }
    Err(walk.refuse(walk.here(), Wrong::Kind))
}

impl Walk<'_> {
    /// Puts the names of a path, or of a link's target, at the front of the queue.
    fn go_first(&mut self, path: &Path) -> Result<(), Error> {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.waiting.push_front(name.to_owned()),
                Component::ParentDir => self.waiting.push_front("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if path.has_root() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = open_path("/", flags, Mode::empty()).map_err(|e| self.failed(e))?;
            self.folders.clear();
            self.enter(root, PathBuf::from("/"))?;
        }
        Ok(())
    }

    /// Takes the next name: enters a folder, follows a link, or opens the file.
    fn step(&mut self, name: &OsStr, readers: Readers) -> Result<Option<File>, Error> {
        let path = self.here().join(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(self.top(), name, flags, Mode::empty()).map_err(|e| self.failed(e))?;
        let stat = self.stat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.enter(found, path)?;
                Ok(None)
            }
            FileType::Symlink => {
                self.owned(&path, &stat)?;
                self.links += 1;
                if self.links > MOST_LINKS {
                    return Err(self.refuse(self.asked, Wrong::Links));
                }
                let target = readlinkat(&found, "", Vec::new()).map_err(|e| self.failed(e))?;
                self.go_first(Path::new(&OsString::from_vec(target.into_bytes())))?;
                Ok(None)
            }
            FileType::RegularFile if !self.waiting.is_empty() => Err(self.failed(rustix::io::Errno::NOTDIR)),
            _ => {
                // Judge before opening too: a caller that may not open the file still learns what is wrong with it.
                self.judge(&path, &stat, readers)?;
                self.file(name, &path, readers).map(Some)
            }
        }
    }

    /// Opens the file and checks the opened one. The flags keep the open from following a link, or waiting for the
    /// other end of a pipe, that may have taken the file's place by now.
    fn file(&self, name: &OsStr, path: &Path, readers: Readers) -> Result<File, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(self.top(), name, flags, Mode::empty()).map_err(|e| self.failed(e))?;
        self.judge(path, &self.stat(&file)?, readers)?;
        Ok(File::from(file))
    }

    fn judge(&self, path: &Path, stat: &Stat, readers: Readers) -> Result<(), Error> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.refuse(path, Wrong::Kind));
        }
        self.owned(path, stat)?;
        let read = match readers {
            Readers::Everybody => 0,
            Readers::GroupOfRoot if stat.st_uid == 0 => 0o004,
            Readers::GroupOfRoot | Readers::Nobody => 0o044,
        };
        let excess = stat.st_mode & (WRITE | read);
        if excess != 0 {
            return Err(self.refuse(path, Wrong::Mode { mode: stat.st_mode & 0o7777, excess }));
        }
        let shared = self.folders.last().is_some_and(|folder| folder.shared);
        #[allow(clippy::useless_conversion)] // The type differs by processor.
        let names = u64::from(stat.st_nlink);
        if shared && names > 1 { Err(self.refuse(path, Wrong::Names(names))) } else { Ok(()) }
    }

    fn enter(&mut self, fd: OwnedFd, path: PathBuf) -> Result<(), Error> {
        let stat = self.stat(&fd)?;
        self.owned(&path, &stat)?;
        let excess = stat.st_mode & WRITE;
        let sticky = stat.st_mode & STICKY != 0;
        if excess != 0 && !sticky {
            return Err(self.refuse(&path, Wrong::Mode { mode: stat.st_mode & 0o7777, excess }));
        }
        self.folders.push(Folder { fd, path, shared: excess != 0 });
        Ok(())
    }

    fn owned(&self, path: &Path, stat: &Stat) -> Result<(), Error> {
        if stat.st_uid == 0 || stat.st_uid == self.us {
            return Ok(());
        }
        Err(self.refuse(path, Wrong::Owner { owner: stat.st_uid, us: self.us }))
    }

    fn stat(&self, fd: impl AsFd) -> Result<Stat, Error> {
        fstat(fd).map_err(|e| self.failed(e))
    }

    fn top(&self) -> BorrowedFd<'_> {
        // Every path here is absolute, so a folder has been entered before the first name; the default is never used.
        self.folders.last().map_or(rustix::fs::CWD, |folder| folder.fd.as_fd())
    }

    fn here(&self) -> &Path {
        self.folders.last().map_or(self.asked, |folder| &folder.path)
    }

    fn failed(&self, error: rustix::io::Errno) -> Error {
        Error::Read { path: self.asked.to_owned(), source: error.into() }
    }

    fn refuse(&self, at: &Path, wrong: Wrong) -> Error {
        Error::Refused { path: self.asked.to_owned(), at: at.to_owned(), wrong }
    }
}
