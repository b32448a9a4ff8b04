//! Writing a plan to a host, and taking it back.
//!
//! A file is replaced in one step: written beside, synced, renamed. What was there keeps its inode as
//! `NAME.before-hab-build.1`, the next one as `.2`: no earlier version is ever written over. Where nothing was, an
//! empty `NAME.before-hab-build.none` says so. Mode and owner stay.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::host;
use crate::{Change, Runtime};

/// Between a file's name and the number of an earlier version.
const EARLIER: &str = ".before-hab-build.";
/// Between a file's name and the number of a version that a restoration took away.
const LATER: &str = ".after-hab-build.";
/// Earlier versions of one file; with more, something writes in a loop.
const MOST: u32 = 1000;

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
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
    /// Somebody else wrote it.
    #[error("{} changed while the change was planned; nothing was written to it: plan again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Every number is taken.
    #[error("{} has {MOST} earlier versions beside it; remove some", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Placed {
    /// It.
    pub path: PathBuf,
    /// Where what was there before is kept; none where nothing was.
    pub earlier: Option<PathBuf>,
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    let path = path.to_owned();
    move |source| PlaceError::Io { doing, path, source }
}

/// Writes the changes below `root`, one file after the other. What fails leaves the files before it written, each
/// with its earlier version beside it.
pub fn apply(root: &Path, changes: &[Change]) -> Result<Vec<Placed>, PlaceError> {
    changes.iter().map(|change| write(root, change)).collect()
}

fn write(root: &Path, change: &Change) -> Result<Placed, PlaceError> {
    let named = root.join(&change.path);
    // A link stays one: what it leads to is replaced.
    let path = host::place(root, &change.path).map_err(io_error("find", &named))?;
    let folder = path.parent().unwrap_or(root).to_owned();
    fs::create_dir_all(&folder).map_err(io_error("make the folder", &folder))?;
    let there = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(io_error("read", &path)(e)),
    };
    let without_mark = |text: &String| text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
    if there.as_ref().map(without_mark) != change.before {
        return Err(PlaceError::Changed { path });
    }
    let earlier = if there.is_some() {
        Some(keep(&path, &path, EARLIER)?)
    } else {
        note_absence(&path)?;
        None
    };
    replace(&path, &folder, &change.after)?;
    Ok(Placed { path, earlier })
}

fn beside(path: &Path, between: &str, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{between}{end}"));
    name.into()
}

/// Gives a file a second name that it keeps when it is replaced: `like` with the first number that is free.
fn keep(path: &Path, like: &Path, between: &str) -> Result<PathBuf, PlaceError> {
    for number in 1..=MOST {
        let kept = beside(like, between, &number.to_string());
        match fs::hard_link(path, &kept) {
            Ok(()) => return Ok(kept),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            // Some file systems have no second names.
            Err(_) => match copy(path, &kept) {
                Ok(()) => return Ok(kept),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(io_error("keep what was there as", &kept)(e)),
            },
        }
    }
    Err(PlaceError::Full { path: path.to_owned() })
}

fn copy(path: &Path, kept: &Path) -> io::Result<()> {
    let about = fs::metadata(path)?;
    // For nobody else until it is whole: it may hold passwords.
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(kept)?;
    io::copy(&mut File::open(path)?, &mut to)?;
    to.sync_all()?;
    own(&to, &about)?;
    to.set_permissions(about.permissions())
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

/// Notes that nothing was there, unless something was there before that.
fn note_absence(path: &Path) -> Result<(), PlaceError> {
    if beside(path, EARLIER, "1").exists() {
        return Ok(());
    }
    let note = beside(path, EARLIER, "none");
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&note) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(io_error("write", &note)(e)),
    }
}

fn replace(path: &Path, folder: &Path, text: &str) -> Result<(), PlaceError> {
    let failed = io_error("write", path);
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".hab-build-").tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        let mode = match fs::metadata(path) {
            Ok(about) => {
                own(file.as_file(), &about)?;
                about.permissions()
            }
            Err(_) => Permissions::from_mode(0o644),
        };
        file.as_file().set_permissions(mode)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        // The new name has to survive a crash as well as the bytes.
        File::open(folder)?.sync_all()
    };
    write().map_err(failed)
}

/// A file that was put back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// It.
    pub path: PathBuf,
    /// Whether it is there again; else it is gone, because nothing was there.
    pub there: bool,
}

/// Puts back what was there before the first write, of every file of this runtime that has an earlier version beside
/// it. What is taken away stays beside it as `NAME.after-hab-build.1`.
pub fn restore(runtime: Runtime, root: &Path) -> Result<Vec<Restored>, PlaceError> {
    let mut paths = Vec::new();
    for folder in folders(runtime) {
        let folder = host::place(root, folder).map_err(io_error("find", &root.join(folder)))?;
        written(&folder, 2, &mut paths)?;
    }
    paths.sort();
    paths.dedup();
    paths.into_iter().map(|path| put_back(&path)).collect()
}

/// Where this program writes.
fn folders(runtime: Runtime) -> &'static [&'static str] {
    match runtime {
        Runtime::Containerd => &["etc/containerd"],
        Runtime::K3s => &["etc/rancher/k3s"],
        Runtime::Rke2 => &["etc/rancher/rke2"],
        Runtime::Crio | Runtime::Podman => &["etc/containers"],
        Runtime::Docker => &["etc/docker"],
    }
}

/// The files below a folder that have an earlier version beside them.
fn written(folder: &Path, depth: usize, into: &mut Vec<PathBuf>) -> Result<(), PlaceError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_error("list", folder)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(io_error("list", folder))?;
        let kind = entry.file_type().map_err(io_error("look at", &entry.path()))?;
        if kind.is_dir() && depth > 0 {
            written(&entry.path(), depth - 1, into)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(EARLIER) {
            into.push(folder.join(name));
        }
    }
    Ok(())
}

fn put_back(path: &Path) -> Result<Restored, PlaceError> {
    if path.exists() {
        keep(path, path, LATER)?;
    }
    let nothing = beside(path, EARLIER, "none");
    let numbered = (1..=MOST).map(|number| beside(path, EARLIER, &number.to_string()));
    let mut versions: Vec<PathBuf> = numbered.take_while(|version| version.exists()).collect();
    let there = !nothing.exists() && !versions.is_empty();
    if there {
        let first = versions.remove(0);
        fs::rename(&first, path).map_err(io_error("put back", path))?;
    } else {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", path)(e)),
            _ => {}
        }
        // Last, so that a kill before this is made good by trying again.
        match fs::remove_file(&nothing) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &nothing)(e)),
            _ => {}
        }
    }
    // Versions between are later than what is there now.
    for version in versions {
        keep(&version, path, LATER)?;
        fs::remove_file(&version).map_err(io_error("move", &version))?;
    }
    Ok(Restored { path: path.to_owned(), there })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str, before: Option<&str>, after: &str) -> Change {
        Change { path: path.to_owned(), before: before.map(str::to_owned), after: after.to_owned() }
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn every_earlier_version_of_a_file_is_kept_with_its_mode() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("etc/docker/daemon.json");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "mine").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let path = "etc/docker/daemon.json";
        apply(root.path(), &[change(path, Some("mine"), "one")]).unwrap();
        let placed = apply(root.path(), &[change(path, Some("one"), "two")]).unwrap();
        assert_eq!(read(&file), "two");
        assert_eq!(read(&beside(&file, EARLIER, "1")), "mine");
        assert_eq!(placed[0].earlier.as_deref(), Some(beside(&file, EARLIER, "2").as_path()));
        assert_eq!(read(&beside(&file, EARLIER, "2")), "one");
        for path in [&file, &beside(&file, EARLIER, "1")] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let names = fs::read_dir(file.parent().unwrap()).unwrap().count();
        assert_eq!(names, 3, "nothing half written is left");
    }

    #[test]
    fn what_changed_since_the_plan_is_not_written_over() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "theirs").unwrap();
        let error = apply(root.path(), &[change("a", Some("mine"), "ours")]).unwrap_err();
        assert!(error.to_string().contains("changed while"), "{error}");
        assert_eq!(read(&root.path().join("a")), "theirs");
        assert!(apply(root.path(), &[change("a", None, "ours")]).is_err());
    }

    #[test]
    fn a_link_stays_a_link_and_what_it_leads_to_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("opt")).unwrap();
        fs::write(root.path().join("opt/real"), "old").unwrap();
        std::os::unix::fs::symlink("/opt/real", root.path().join("named")).unwrap();
        apply(root.path(), &[change("named", Some("old"), "new")]).unwrap();
        assert!(fs::symlink_metadata(root.path().join("named")).unwrap().is_symlink());
        assert_eq!(read(&root.path().join("opt/real")), "new");
        assert_eq!(read(&root.path().join("opt/real.before-hab-build.1")), "old");
    }

    #[test]
    fn a_restoration_puts_back_what_was_there_before_the_first_write_and_loses_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/docker");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("daemon.json"), "mine").unwrap();
        let (had, new) = ("etc/docker/daemon.json", "etc/docker/certs.d/farm/ca.crt");
        apply(root.path(), &[change(had, Some("mine"), "one"), change(new, None, "one")]).unwrap();
        apply(root.path(), &[change(had, Some("one"), "two"), change(new, Some("one"), "two")]).unwrap();
        let restored = restore(Runtime::Docker, root.path()).unwrap();
        assert_eq!(restored.iter().map(|r| r.there).collect::<Vec<_>>(), [false, true]);
        assert_eq!(read(&folder.join("daemon.json")), "mine");
        assert!(!folder.join("certs.d/farm/ca.crt").exists());
        assert_eq!(read(&folder.join("daemon.json.after-hab-build.1")), "two");
        assert_eq!(restore(Runtime::Docker, root.path()).unwrap(), []);
        // Once more from the start: the original is the original again.
        apply(root.path(), &[change(had, Some("mine"), "three")]).unwrap();
        restore(Runtime::Docker, root.path()).unwrap();
        assert_eq!(read(&folder.join("daemon.json")), "mine");
    }
}
