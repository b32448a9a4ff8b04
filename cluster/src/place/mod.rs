//! Writes a plan to a host, and takes it back.
//!
//! A file is replaced in one step: write beside it, sync, rename. The old file keeps its inode under another name (see
//! `kept.rs`), and no earlier version is ever written over. A file with several names is copied instead, so that a
//! version with a further name shows that somebody else made it. Mode and owner stay.

mod restore;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_restore;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::Change;
use crate::file::{self, FileError, Regular, io_error};
use crate::kept::{MOST, Versions, When};

pub use restore::{Restoration, Restored, restore};

/// A file could not be written or put back.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The system refuses, or the file may be somebody else's.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody else wrote the file.
    #[error("{} changed while the change was planned; nothing was written: plan again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Every number of a version is taken.
    #[error("cannot keep what is in {}: a version with the last number, {MOST}, is beside it", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The version from before the first write is missing.
    #[error(
        "cannot tell what was in {} at first: {} is beside it, but no version with the number 1",
        path.display(),
        there.display()
    )]
    NoFirst {
        /// The file.
        path: PathBuf,
        /// The first version that is there.
        there: PathBuf,
    },
}

impl PlaceError {
    /// Whether the host's files are to blame, not the system or this program.
    pub fn is_input(&self) -> bool {
        match self {
            Self::File(error) => error.is_input(),
            Self::NoFirst { .. } => true,
            Self::Changed { .. } | Self::Full { .. } => false,
        }
    }

    /// What a person can do about the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Full { .. } => Some("remove the versions that nobody needs, the last one among them".to_owned()),
            Self::NoFirst { .. } => Some(
                "nothing was changed; give the version that you want back the number 1, or put it in place by hand"
                    .to_owned(),
            ),
            Self::Changed { .. } => None,
        }
    }
}

/// A file that was written, or removed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Placed {
    /// Its path.
    pub path: PathBuf,
    /// Where the earlier file is kept; `None` if there was none.
    pub earlier: Option<PathBuf>,
    /// Whether the file was removed.
    pub gone: bool,
}

/// Writes the changes below `root`, one file after the other. Before it replaces the first file, it has looked at all
/// files, and all new ones are on the disk under temporary names. A later failure leaves the files before it written,
/// each with its earlier version beside it.
pub fn apply(root: &Path, changes: &[Change]) -> Result<Vec<Placed>, PlaceError> {
    let looked_at: Result<Vec<_>, _> = changes.iter().map(|change| Write::new(root, change)).collect();
    let mut writes = looked_at?;
    for write in &mut writes {
        write.stage()?;
    }
    writes.into_iter().map(Write::carry_out).collect()
}

/// A change that is being made.
struct Write<'a> {
    change: &'a Change,
    path: PathBuf,
    /// The file that is there, if any.
    there: Option<Regular>,
    staged: Option<TempPath>,
}

impl<'a> Write<'a> {
    fn new(root: &Path, change: &'a Change) -> Result<Self, PlaceError> {
        // A link stays a link: the file that it leads to is replaced.
        let path = file::find(root, &change.path)?;
        let there = Regular::new("write over", &path)?;
        let text = there.as_ref().map(text_of).transpose().map_err(io_error("read", &path))?;
        if text != change.before {
            return Err(PlaceError::Changed { path });
        }
        Ok(Self { change, path, there, staged: None })
    }

    /// Writes the new file under a temporary name, with the mode and owner of the present one.
    fn stage(&mut self) -> Result<(), FileError> {
        let Some(text) = &self.change.after else { return Ok(()) };
        let folder = self.folder();
        fs::create_dir_all(folder).map_err(io_error("make the folder", folder))?;
        let stage = || -> io::Result<TempPath> {
            let mut staged = tempfile::Builder::new().prefix(".hab-build-").tempfile_in(folder)?;
            staged.write_all(text.as_bytes())?;
            let mode = match &self.there {
                Some(there) => {
                    own(staged.as_file(), &there.about)?;
                    there.about.permissions()
                }
                None => Permissions::from_mode(0o644),
            };
            staged.as_file().set_permissions(mode)?;
            staged.as_file().sync_all()?;
            Ok(staged.into_temp_path())
        };
        self.staged = Some(stage().map_err(io_error("write", &self.path))?);
        Ok(())
    }

    fn carry_out(self) -> Result<Placed, PlaceError> {
        let versions = Versions::of(&self.path)?;
        let keep_it = |there| keep(there, &versions, When::Before);
        let earlier = self.there.as_ref().map(keep_it).transpose()?;
        if earlier.is_none() {
            note_absence(&versions)?;
        }
        let (gone, folder) = (self.staged.is_none(), self.folder().to_owned());
        let done = match self.staged {
            Some(staged) => staged.persist(&self.path).map_err(|e| e.error),
            None => fs::remove_file(&self.path),
        };
        // The new name must survive a crash, like the bytes.
        let synced = done.and_then(|()| File::open(folder)?.sync_all());
        synced.map_err(io_error(if gone { "remove" } else { "write" }, &self.path))?;
        Ok(Placed { path: self.path, earlier, gone })
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }
}

/// The text of a file, in the form in which the plan has it.
fn text_of(file: &Regular) -> io::Result<String> {
    let mut text = String::new();
    file.open()?.read_to_string(&mut text)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Gives a file a second name, with the first free number, which it keeps when it is replaced.
fn keep(file: &Regular, versions: &Versions, when: When) -> Result<PathBuf, PlaceError> {
    for number in versions.free(when) {
        let kept = versions.path(when, number);
        let linked = match file.about.nlink() {
            1 => fs::hard_link(&file.path, &kept),
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        match linked {
            Ok(()) => return Ok(kept),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            // Some file systems have no hard links.
            Err(_) => match copy(file, &kept) {
                Ok(()) => return Ok(kept),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(io_error("keep what was there as", &kept)(e).into()),
            },
        }
    }
    Err(PlaceError::Full { path: file.path.clone() })
}

fn copy(file: &Regular, kept: &Path) -> io::Result<()> {
    // Only its owner may read it until it is whole, because it may hold passwords.
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(kept)?;
    io::copy(&mut file.open()?, &mut to)?;
    own(&to, &file.about)?;
    to.set_permissions(file.about.permissions())?;
    to.sync_all()
}

/// Gives a new file the owner of the one that it replaces.
fn own(file: &File, about: &fs::Metadata) -> io::Result<()> {
    let now = file.metadata()?;
    if (now.uid(), now.gid()) == (about.uid(), about.gid()) {
        return Ok(());
    }
    let (user, group) = (rustix::fs::Uid::from_raw(about.uid()), rustix::fs::Gid::from_raw(about.gid()));
    Ok(rustix::fs::fchown(file, Some(user), Some(group))?)
}

/// Notes that there was no file, unless there is an earlier version or note.
fn note_absence(versions: &Versions) -> Result<(), FileError> {
    if !versions.is_empty() {
        return Ok(());
    }
    let note = versions.note();
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&note) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(io_error("write", &note)(e)),
    }
}
