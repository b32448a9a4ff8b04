//! The versions of a file that are kept beside it. `NAME.before-hab-build.1` has what was there before this program
//! first wrote the file, `.2` what was there before the next write. If there was no file, an empty
//! `NAME.before-hab-build.none` notes that. `NAME.after-hab-build.1` and so on have what a restoration took away.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::file::{FileError, io_error};

/// The last number of a version. More versions mean that something writes in a loop.
pub(crate) const MOST: u32 = 1000;
/// The end of the note that there was no file, instead of a number.
const NONE: &str = "none";

/// Before which event a version was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before a write.
    Before,
    /// Before a restoration.
    After,
}

impl When {
    fn mark(self) -> &'static str {
        match self {
            Self::Before => ".before-hab-build.",
            Self::After => ".after-hab-build.",
        }
    }
}

/// The versions of one file.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// The file.
    path: PathBuf,
    /// Whether a note says that there was no file at first.
    pub(crate) none: bool,
    /// The numbers of versions from before a write.
    pub(crate) before: BTreeSet<u32>,
    /// The numbers of versions from before a restoration.
    after: BTreeSet<u32>,
    /// Files named like an earlier version, except that this program does not write such a number.
    pub(crate) strange: Vec<PathBuf>,
}

impl Versions {
    /// The versions beside `path`, found by their names alone.
    pub(crate) fn of(path: &Path) -> Result<Self, FileError> {
        let mut versions = Self { path: path.to_owned(), ..Self::default() };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(versions) };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(versions);
            }
            Err(e) => return Err(io_error("list", folder)(e)),
        };
        for entry in entries {
            let entry = entry.map_err(io_error("list", folder))?;
            if let Some(rest) = entry.file_name().as_bytes().strip_prefix(name.as_bytes()) {
                versions.add(&entry.path(), rest);
            }
        }
        versions.strange.sort();
        Ok(versions)
    }

    fn add(&mut self, path: &Path, rest: &[u8]) {
        if let Some(end) = rest.strip_prefix(When::Before.mark().as_bytes()) {
            match number(end) {
                Some(number) => drop(self.before.insert(number)),
                None if end == NONE.as_bytes() => self.none = true,
                None => self.strange.push(path.to_owned()),
            }
        } else if let Some(number) = rest.strip_prefix(When::After.mark().as_bytes()).and_then(number) {
            self.after.insert(number);
        }
    }

    /// Whether this program never wrote the file, or it was restored.
    pub(crate) fn is_empty(&self) -> bool {
        !self.none && self.before.is_empty()
    }

    /// The path of a version.
    pub(crate) fn path(&self, when: When, number: u32) -> PathBuf {
        self.beside(when, &number.to_string())
    }

    /// The path of the note that there was no file.
    pub(crate) fn note(&self) -> PathBuf {
        self.beside(When::Before, NONE)
    }

    fn beside(&self, when: When, end: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(when.mark());
        name.push(end);
        name.into()
    }

    /// The free numbers after the last one, because numbers give the order.
    pub(crate) fn free(&self, when: When) -> impl Iterator<Item = u32> + use<> {
        let taken = match when {
            When::Before => &self.before,
            When::After => &self.after,
        };
        taken.last().copied().unwrap_or(0) + 1..=MOST
    }

    /// All names that this program gave to versions of the file, and the file's own name.
    pub(crate) fn names(&self) -> Vec<PathBuf> {
        let before = self.before.iter().map(|number| self.path(When::Before, *number));
        let after = self.after.iter().map(|number| self.path(When::After, *number));
        before.chain(after).chain([self.path.clone()]).collect()
    }
}

/// A number as this program writes it: from 1, without a sign or leading zeros.
fn number(end: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(end).ok()?;
    let number: u32 = text.parse().ok()?;
    ((1..=MOST).contains(&number) && number.to_string() == text).then_some(number)
}
