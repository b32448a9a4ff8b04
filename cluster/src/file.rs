//! A file that is written over or put back. It must be a regular file, and nobody else's.
//!
//! Root follows these names, so somebody else must not have made them: a link that another user planted in a folder of
//! settings would lead root to write over /etc/shadow. The opened file is judged, not its name. It is opened without
//! following a link and without waiting for the other end of a pipe.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::host::{self, open};

/// The permissions to write of everybody but the owner.
const WRITE: u32 = 0o022;

/// A file of the host cannot be, or must not be, written over or put back.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried: `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file may be somebody else's.
    #[error("refuse to {doing} {}: {wrong}", path.display())]
    Refused {
        /// What this program wanted to do: `put back`.
        doing: &'static str,
        /// The file, or the link that leads to it.
        path: PathBuf,
        /// What is wrong with the file.
        wrong: Wrong,
    },
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It leads to another file.
    #[error("it is a symbolic link")]
    Link,
    /// It is a folder, a device, a socket or a pipe.
    #[error("it is not a regular file")]
    Kind,
    /// Its owner is somebody who could change it at any time.
    #[error("it belongs to user {owner}, neither to root nor to the user of this program ({us})")]
    Owner {
        /// The owner's user id.
        owner: u32,
        /// The user id of this program.
        us: u32,
    },
    /// Somebody may write it who may not write the file that it replaces.
    #[error("{} may write it (mode {mode:04o}), but not the file that it replaces", who(*excess))]
    Mode {
        /// Its permissions.
        mode: u32,
        /// The bits of these that it must not have.
        excess: u32,
    },
    /// It has more hard links than this program made, so it may be any other file.
    #[error("it has {names} hard links, and this program made {beside} of them")]
    Names {
        /// How many names it has.
        names: u64,
        /// How many of these names this program made.
        beside: u64,
    },
}

impl FileError {
    /// Whether the host's files are to blame, not the system or this program.
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// What a person can do about the error.
    pub fn hint(&self) -> Option<String> {
        let Self::Refused { wrong, .. } = self else { return None };
        let what = match wrong {
            Wrong::Link | Wrong::Kind => "look where it comes from, and remove it or put a file in its place",
            Wrong::Owner { us: 0, .. } => "if it is what you expect, give it to root (`chown -h root`)",
            Wrong::Owner { .. } => "if it is what you expect, run this as the user who owns it",
            Wrong::Mode { .. } => "if it is what you expect, take that permission away (`chmod go-w`)",
            Wrong::Names { .. } => "if it is what you expect, put a copy in its place (`cp -p`, then `mv`)",
        };
        Some(format!("nothing was changed; {what}"))
    }
}

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { doing, path, source }
}

fn refused(doing: &'static str, path: &Path, wrong: Wrong) -> FileError {
    FileError::Refused { doing, path: path.to_owned(), wrong }
}

/// Where a path of the host lies on this machine. Refuses a link on the way that somebody else made.
pub(crate) fn find(root: &Path, path: &str) -> Result<PathBuf, FileError> {
    let (found, links) = host::follow(root, path).map_err(io_error("find", &root.join(path)))?;
    for link in links {
        let about = fs::symlink_metadata(&link).map_err(io_error("look at", &link))?;
        owned(&about).map_err(|wrong| refused("follow", &link, wrong))?;
    }
    Ok(found)
}

/// A regular file that belongs to root or to this program's user.
#[derive(Debug)]
pub(crate) struct Regular {
    pub(crate) path: PathBuf,
    pub(crate) about: Metadata,
}

impl Regular {
    /// Looks at the file; `None` if there is none. `doing` is what it is for, such as `put back`.
    pub(crate) fn new(doing: &'static str, path: &Path) -> Result<Option<Self>, FileError> {
        // Look at it before opening it, too, because opening a device may start it.
        let about = match fs::symlink_metadata(path) {
            Ok(about) => about,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("look at", path)(e)),
        };
        judge(&about).map_err(|wrong| refused(doing, path, wrong))?;
        let file = open(path).map_err(io_error("open", path))?;
        let about = file.metadata().map_err(io_error("look at", path))?;
        judge(&about).map_err(|wrong| refused(doing, path, wrong))?;
        Ok(Some(Self { path: path.to_owned(), about }))
    }

    /// Opens the file for reading, if it is still the one that was judged.
    pub(crate) fn open(&self) -> io::Result<File> {
        let file = open(&self.path)?;
        if self.is(&file.metadata()?) { Ok(file) } else { Err(io::Error::other("it is another file now")) }
    }

    /// Whether two names are of one file.
    pub(crate) fn is(&self, other: &Metadata) -> bool {
        (self.about.dev(), self.about.ino()) == (other.dev(), other.ino())
    }

    /// Refuses the file if more people may write it than the file that it replaces.
    pub(crate) fn not_looser(&self, doing: &'static str, than: Option<&Self>) -> Result<(), FileError> {
        let may = |about: &Metadata| about.mode() & WRITE;
        let mut kept = than.map_or(0, |than| may(&than.about));
        // If the groups differ, the group's bit is about other people.
        if than.is_some_and(|than| than.about.gid() != self.about.gid()) {
            kept &= 0o002;
        }
        let excess = may(&self.about) & !kept;
        let mode = self.about.mode() & 0o7777;
        if excess == 0 { Ok(()) } else { Err(refused(doing, &self.path, Wrong::Mode { mode, excess })) }
    }

    /// Refuses the file if it has names that this program did not make.
    pub(crate) fn not_elsewhere(&self, doing: &'static str, ours: &[PathBuf]) -> Result<(), FileError> {
        let names = self.about.nlink();
        if names == 1 {
            return Ok(());
        }
        let of_it = |path: &&PathBuf| fs::symlink_metadata(path).is_ok_and(|about| self.is(&about));
        let beside = ours.iter().filter(of_it).count() as u64;
        if names <= beside { Ok(()) } else { Err(refused(doing, &self.path, Wrong::Names { names, beside })) }
    }
}

fn judge(about: &Metadata) -> Result<(), Wrong> {
    match about.file_type() {
        kind if kind.is_symlink() => Err(Wrong::Link),
        kind if kind.is_file() => owned(about),
        _ => Err(Wrong::Kind),
    }
}

fn owned(about: &Metadata) -> Result<(), Wrong> {
    let (owner, us) = (about.uid(), rustix::process::geteuid().as_raw());
    if owner == 0 || owner == us { Ok(()) } else { Err(Wrong::Owner { owner, us }) }
}

fn who(excess: u32) -> &'static str {
    match (excess & 0o020 != 0, excess & 0o002 != 0) {
        (true, true) => "its group and others",
        (true, false) => "its group",
        _ => "others",
    }
}
