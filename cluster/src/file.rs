//! A file that is written over or put back: it has to be one, and nobody else's.
//!
//! Root follows what these names say, so somebody else must not have made them: a link that another user planted in a
//! folder of settings would have /etc/shadow written over. What is judged is the opened file. It is opened without
//! following a link and without waiting for the other end of a pipe.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::host::{self, open};

/// The permissions to write that are not the owner's.
const WRITE: u32 = 0o022;

/// A file of the host that is neither written over nor put back.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system says no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried: `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It may be somebody else's.
    #[error("refuse to {doing} {}: {wrong}", path.display())]
    Refused {
        /// What was to be done: `put back`.
        doing: &'static str,
        /// The file, or the link that leads to it.
        path: PathBuf,
        /// What is wrong with it.
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
    /// It belongs to somebody who could change it at any time.
    #[error("it belongs to user {owner}, neither to root nor to the user of this program ({us})")]
    Owner {
        /// Who that is.
        owner: u32,
        /// Whom this program runs as.
        us: u32,
    },
    /// Somebody may write it who may not write the file in whose place it comes.
    #[error("{} may write it (mode {mode:04o}), but not the file in whose place it comes", who(*excess))]
    Mode {
        /// Its permissions.
        mode: u32,
        /// The bits among them that must not be there.
        excess: u32,
    },
    /// It is a hard link: it may be any other file.
    #[error("the same file has {names} names, and {beside} beside the one that it was kept for")]
    Names {
        /// How many it has.
        names: u64,
        /// How many of them are of this program's making.
        beside: u64,
    },
}

impl FileError {
    /// Whether the host's files are to blame, not the system or this program.
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let Self::Refused { wrong, .. } = self else { return None };
        let what = match wrong {
            Wrong::Link | Wrong::Kind => "look where it comes from, and remove it or put a file in its place",
            Wrong::Owner { us: 0, .. } => "if it is what you expect, give it to root (`chown -h root`)",
            Wrong::Owner { .. } => "if it is what you expect, run this as the user that it belongs to",
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

/// Where a path of the host lies on this machine, if nobody else made a link on the way to it.
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
    /// `None` where nothing is. `doing`: what is to be done with it.
    pub(crate) fn new(doing: &'static str, path: &Path) -> Result<Option<Self>, FileError> {
        // Looked at before it is opened, too: opening a device may set it going.
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

    /// Opens it to read it, if it is still the one that was looked at.
    pub(crate) fn open(&self) -> io::Result<File> {
        let file = open(&self.path)?;
        if self.is(&file.metadata()?) { Ok(file) } else { Err(io::Error::other("it is another file by now")) }
    }

    /// Whether two names are of one file.
    pub(crate) fn is(&self, other: &Metadata) -> bool {
        (self.about.dev(), self.about.ino()) == (other.dev(), other.ino())
    }

    /// Refuses it where it would come in the place of a file that fewer people may write.
    pub(crate) fn not_looser(&self, doing: &'static str, than: Option<&Self>) -> Result<(), FileError> {
        let may = |about: &Metadata| about.mode() & WRITE;
        let mut kept = than.map_or(0, |than| may(&than.about));
        // The same bit of another group is for other people.
        if than.is_some_and(|than| than.about.gid() != self.about.gid()) {
            kept &= 0o002;
        }
        let excess = may(&self.about) & !kept;
        let mode = self.about.mode() & 0o7777;
        if excess == 0 { Ok(()) } else { Err(refused(doing, &self.path, Wrong::Mode { mode, excess })) }
    }

    /// Refuses it where it has names beside those of this program's making.
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
