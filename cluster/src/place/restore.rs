//! Puts back what was there before the first write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{PlaceError, keep};
use crate::file::{self, Regular, io_error};
use crate::host::Host;
use crate::kept::{Versions, When};
use crate::{Finding, Registry, Runtime, write};

/// A file that was put back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// Its path.
    pub path: PathBuf,
    /// Whether the file is there again. If not, it was removed, because there was none at first.
    pub there: bool,
}

/// The result of a restoration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restoration {
    /// The files that were put back, sorted by path.
    pub files: Vec<Restored>,
    /// Files beside them that are named like a version, except that this program does not write such a number. They
    /// stay as they are.
    pub strange: Vec<PathBuf>,
    /// Settings that could not be read. The files that they lead to were not looked at.
    pub unread: Vec<Finding>,
}

/// Puts back what was there before the first write, for every file that a plan for this runtime writes and that has an
/// earlier version beside it. Looks where the host's settings lead now, and where they lead by default. Keeps what it
/// takes away as a version too. Looks at all files and versions before it touches the first.
pub fn restore(runtime: Runtime, root: &Path) -> Result<Restoration, PlaceError> {
    // It does not matter which farm the files were written for.
    let registry = Registry { url: String::new(), upstreams: Vec::new(), authority: None };
    let none = BTreeMap::new();
    let mut host = Host::new(&registry, root, &none);
    let mut restoration = Restoration::default();
    let (mut seen, mut returns) = (BTreeSet::new(), Vec::new());
    for path in write::written(&mut host, runtime) {
        for place in places(&host, &path).map_err(io_error("find", &root.join(&path)))? {
            if !seen.insert(place.clone()) {
                continue;
            }
            let versions = Versions::of(&place)?;
            restoration.strange.extend(versions.strange.iter().cloned());
            if !versions.is_empty() {
                file::find(root, &path)?;
                returns.push(Return::new(place, versions)?);
            }
        }
    }
    restoration.unread = host.found;
    returns.sort_by(|one, other| one.path.cmp(&other.path));
    restoration.files = returns.into_iter().map(Return::carry_out).collect::<Result<_, _>>()?;
    Ok(restoration)
}

/// Where versions of a file may lie: beside the file that its name leads to, and beside the name itself, which may have
/// become a link later.
fn places(host: &Host<'_>, path: &str) -> io::Result<[PathBuf; 2]> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    Ok([host.place(path)?, host.place(folder)?.join(name)])
}

/// A file that is to be put back.
struct Return {
    path: PathBuf,
    versions: Versions,
    /// The file that is there, if any.
    there: Option<Regular>,
    /// The versions from before writes, first one first.
    before: Vec<Regular>,
}

impl Return {
    fn new(path: PathBuf, versions: Versions) -> Result<Self, PlaceError> {
        let there = Regular::new("write over", &path)?;
        if versions.none {
            Regular::new("believe", &versions.note())?;
        } else if let Some(first) = versions.before.first().filter(|first| **first != 1) {
            // A later version may be one that this program wrote.
            let there = versions.path(When::Before, *first);
            return Err(PlaceError::NoFirst { path, there });
        }
        let names = versions.names();
        let mut before = Vec::new();
        for number in &versions.before {
            let path = versions.path(When::Before, *number);
            let version = Regular::new("put back", &path)?;
            let version = version.ok_or_else(|| io_error("open", &path)(io::ErrorKind::NotFound.into()))?;
            version.not_looser("put back", there.as_ref())?;
            version.not_elsewhere("put back", &names)?;
            before.push(version);
        }
        Ok(Self { path, versions, there, before })
    }

    /// Puts the file back. After a kill at any point, it can run again and comes to the same end.
    fn carry_out(self) -> Result<Restored, PlaceError> {
        let Self { path, versions, there, before } = self;
        let first = before.first().filter(|_| !versions.none);
        // A write that was killed between keeping the file and replacing it leaves one file with both names.
        let whole = there.iter().any(|there| first.is_some_and(|first| first.is(&there.about)));
        if let Some(there) = there.filter(|_| !whole) {
            keep(&there, &versions, When::After)?;
            if first.is_none() {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        // Versions in between become versions from before this restoration.
        for version in before.iter().skip(usize::from(first.is_some())) {
            keep(version, &versions, When::After)?;
            fs::remove_file(&version.path).map_err(io_error("move", &version.path))?;
        }
        // The first version and the note say what was there at first, so they go last.
        if let Some(first) = first {
            let put_back =
                || if whole { fs::remove_file(&first.path) } else { fs::rename(&first.path, &path) };
            put_back().map_err(io_error("put back", &path))?;
        } else {
            let note = versions.note();
            fs::remove_file(&note).map_err(io_error("remove", &note))?;
        }
        Ok(Restored { path, there: first.is_some() })
    }
}
