//! Removes a folder. A folder more than [`DEPTH`] levels down is not entered: it is moved up to the top and emptied
//! there, so neither the depth of a chain nor the length of its path matters.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, RenameFlags, fstat, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::open::{Closed, DEPTH, folder, names};

/// An upper limit, so that somebody who writes as fast as this removes cannot keep it busy for ever. A pass shortens a
/// chain of folders by [`DEPTH`] levels, so the limit allows a depth of 32 million.
const MOST_PASSES: usize = 1 << 20;

/// Removes a folder with everything in it, or the file or link in its place; succeeds if nothing is there. Removes
/// links and never follows them. Opens up folders that were made unreadable. Leaves alone another file system that is
/// mounted somewhere below; then the folder stays too (`EXDEV`).
pub fn remove(path: &Path) -> io::Result<()> {
    let top = match folder(CWD, path, Closed::OpenUp) {
        Ok(top) => top,
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => return Ok(()),
            Some(Errno::NOTDIR | Errno::LOOP) => return Ok(unlinkat(CWD, path, AtFlags::empty())?),
            _ => return Err(error),
        },
    };
    let device = fstat(&top)?.st_dev;
    let mut removal = Removal { top: &top, device, moved: 0, done: 0, failed: None };
    for _ in 0..MOST_PASSES {
        removal.done = 0;
        removal.failed = None;
        removal.pass()?;
        match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Folders that were moved up wait for the next pass, or a writer was faster.
            Err(Errno::NOTEMPTY | Errno::EXIST) if removal.done > 0 => {}
            Err(error) => return Err(removal.failed.take().unwrap_or_else(|| error.into())),
        }
    }
    Err(Errno::NOTEMPTY.into())
}

struct Removal<'a> {
    top: &'a OwnedFd,
    device: u64,
    /// The number of folders moved up so far; it makes their new names.
    moved: u64,
    /// Names that this pass removed.
    done: u64,
    /// The first error of this pass.
    failed: Option<io::Error>,
}

struct Level {
    folder: OwnedFd,
    /// Its name in the level above.
    name: CString,
    left: Vec<CString>,
}

impl Removal<'_> {
    fn pass(&mut self) -> io::Result<()> {
        let again = folder(self.top, c".", Closed::Leave)?;
        let left = names(&again)?;
        let mut stack = vec![Level { folder: again, name: CString::default(), left }];
        loop {
            let depth = stack.len();
            let Some(level) = stack.last_mut() else { return Ok(()) };
            if let Some(name) = level.left.pop() {
                if let Some(below) = self.take(&level.folder, name, depth) {
                    stack.push(below);
                }
            } else if let (Some(empty), Some(above)) = (stack.pop(), stack.last()) {
                let removed = unlinkat(&above.folder, &empty.name, AtFlags::REMOVEDIR);
                self.note(removed);
            }
        }
    }

    /// Removes one name. Returns a folder that must be emptied first; moves it up instead if the walk is too deep
    /// already.
    fn take(&mut self, parent: &OwnedFd, name: CString, depth: usize) -> Option<Level> {
        match unlinkat(parent, &name, AtFlags::empty()) {
            // It is a folder: Linux answers EISDIR, POSIX says EPERM.
            Err(Errno::ISDIR | Errno::PERM) => {}
            other => {
                self.note(other);
                return None;
            }
        }
        let opened = self.open_below(parent, &name);
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.fail(error);
                return None;
            }
        };
        if depth > DEPTH {
            self.move_up(parent, &name);
            return None;
        }
        match names(&opened) {
            Ok(left) => Some(Level { folder: opened, name, left }),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    fn open_below(&self, parent: &OwnedFd, name: &CString) -> io::Result<OwnedFd> {
        let opened = folder(parent, name, Closed::OpenUp)?;
        if fstat(&opened)?.st_dev == self.device { Ok(opened) } else { Err(Errno::XDEV.into()) }
    }

    fn move_up(&mut self, parent: &OwnedFd, name: &CString) {
        loop {
            self.moved += 1;
            let to = format!(".removed-{}", self.moved);
            match renameat_with(parent, name, self.top, &to, RenameFlags::NOREPLACE) {
                // An earlier attempt, or the stranger, used this name.
                Err(Errno::EXIST) => {}
                other => return self.note(other),
            }
        }
    }

    fn note(&mut self, result: rustix::io::Result<()>) {
        match result {
            Ok(()) => self.done += 1,
            Err(Errno::NOENT) => {}
            Err(error) => self.fail(error.into()),
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.failed.get_or_insert(error);
    }
}
