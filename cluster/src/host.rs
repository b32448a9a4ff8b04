//! A host's files, below a root folder, as they are or as they would be after a change.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use rustix::fs::{Mode, OFlags};

use crate::{Finding, Kind, Registry, glob};

/// The registry of an image's name without a registry.
pub(crate) const UNNAMED: &str = "docker.io";

/// The largest file of settings that is read, in bytes.
const SETTINGS: u64 = 4 << 20;
/// The most links that may lead from one name to a file.
const LINKS: usize = 40;
/// The most entries of a folder that are read.
const ENTRIES: usize = 10_000;

/// A host, and the findings about it.
pub(crate) struct Host<'a> {
    pub(crate) registry: &'a Registry,
    /// `None` for a host that has no files yet.
    root: Option<&'a Path>,
    /// Files as they would be, by their paths without a leading slash.
    planned: &'a BTreeMap<String, String>,
    pub(crate) found: Vec<Finding>,
}

impl<'a> Host<'a> {
    pub(crate) fn new(
        registry: &'a Registry,
        root: impl Into<Option<&'a Path>>,
        planned: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { registry, root: root.into(), planned, found: Vec::new() }
    }

    /// Reports that a file lets the host pull past the farm.
    pub(crate) fn tell(&mut self, path: &str, words: impl Into<String>) {
        self.add(Kind::Way, path, words.into());
    }

    /// Reports that a file leaves open what the host does.
    pub(crate) fn wonder(&mut self, path: &str, words: impl Into<String>) {
        self.add(Kind::Unknown, path, words.into());
    }

    fn add(&mut self, kind: Kind, path: &str, words: String) {
        let finding = Finding { kind, path: format!("/{path}"), words };
        if !self.found.contains(&finding) {
            self.found.push(finding);
        }
    }

    /// Where a path of the host lies on this machine. Links are followed within the root.
    pub(crate) fn place(&self, path: &str) -> io::Result<PathBuf> {
        let root = self.root.ok_or(io::ErrorKind::NotFound)?;
        Ok(follow(root, path)?.0)
    }

    /// A file's text. `None` if there is no file, or if it cannot be read, which is reported.
    pub(crate) fn text(&mut self, path: &str) -> Option<String> {
        if let Some(text) = self.planned.get(path) {
            return Some(text.clone());
        }
        match self.read(path) {
            Ok(text) => Some(text),
            Err(e) if is_absent(&e) => None,
            Err(e) => {
                self.wonder(path, format!("cannot be read: {e}"));
                None
            }
        }
    }

    fn read(&self, path: &str) -> io::Result<String> {
        let mut text = String::new();
        self.open(path)?.take(SETTINGS + 1).read_to_string(&mut text)?;
        if text.len() as u64 > SETTINGS {
            return Err(io::Error::other(format!("it has more than {SETTINGS} bytes")));
        }
        // Editors of other systems write a byte order mark, and no reader counts it as text.
        Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
    }

    /// Opens a file for reading.
    pub(crate) fn open(&self, path: &str) -> io::Result<File> {
        let full = self.place(path)?;
        // Look at it before opening it, too, because opening a device may start it.
        let is_file = |about: fs::Metadata| {
            about.is_file().then_some(()).ok_or_else(|| io::Error::other("it is not a file"))
        };
        is_file(fs::symlink_metadata(&full)?)?;
        let file = open(&full)?;
        is_file(file.metadata()?)?;
        Ok(file)
    }

    /// A TOML file. `None` as for [`Host::text`], or if it is not TOML; `follows` says what that leads to.
    pub(crate) fn toml(&mut self, path: &str, follows: &str) -> Option<toml::Table> {
        let text = self.text(path)?;
        match toml::from_str(&text) {
            Ok(table) => Some(table),
            Err(e) => {
                let message = e.message().to_owned();
                self.wonder(path, format!("is not valid TOML{follows}: {message}"));
                None
            }
        }
    }

    /// Whether there is such a file or folder. Reports a path that cannot be looked at.
    pub(crate) fn has(&mut self, path: &str) -> bool {
        let below = format!("{path}/");
        if self.planned.keys().any(|planned| planned == path || planned.starts_with(&below)) {
            return true;
        }
        match self.place(path).and_then(fs::metadata) {
            Ok(_) => true,
            Err(e) if is_absent(&e) => false,
            Err(e) => {
                self.wonder(path, format!("cannot be looked at: {e}"));
                false
            }
        }
    }

    /// The names in a folder, in byte order. Reports a folder that cannot be read.
    pub(crate) fn names(&mut self, folder: &str) -> Vec<String> {
        let below = format!("{folder}/");
        let planned = self.planned.keys().filter_map(|path| path.strip_prefix(&below));
        let mut names: BTreeSet<String> =
            planned.filter_map(|rest| rest.split('/').next()).map(str::to_owned).collect();
        match self.place(folder).and_then(fs::read_dir) {
            Ok(entries) => {
                for entry in entries.take(ENTRIES).flatten() {
                    names.insert(entry.file_name().to_string_lossy().into_owned());
                }
            }
            Err(e) if is_absent(&e) => {}
            Err(e) => self.wonder(folder, format!("cannot be listed: {e}")),
        }
        names.into_iter().collect()
    }

    /// The entries of a folder, as paths below the root.
    pub(crate) fn list(&mut self, folder: &str) -> Vec<String> {
        self.names(folder).into_iter().map(|name| format!("{folder}/{name}")).collect()
    }

    /// Whether a path is a folder.
    pub(crate) fn is_folder(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.planned.keys().any(|planned| planned.starts_with(&below))
            || self.place(path).and_then(fs::metadata).is_ok_and(|about| about.is_dir())
    }

    /// The files that match a pattern such as `conf.d/*.toml`, as paths below the root, in the order of Go's
    /// `filepath.Glob`.
    pub(crate) fn matching(&mut self, pattern: &str) -> Vec<String> {
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for folder in found {
                let path =
                    |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                if !part.contains(['*', '?', '[', '\\']) {
                    let path = path(part);
                    if self.has(&path) {
                        next.push(path);
                    }
                    continue;
                }
                for name in self.names(&folder) {
                    match glob::fits(part, &name) {
                        Some(true) => next.push(path(&name)),
                        Some(false) => {}
                        None => {
                            self.wonder(pattern, "is not a pattern of paths");
                            return Vec::new();
                        }
                    }
                }
            }
            found = next;
        }
        found
    }

    /// When a file last changed; `None` if there is none.
    pub(crate) fn changed(&self, path: &str) -> Option<std::time::SystemTime> {
        fs::metadata(self.place(path).ok()?).ok()?.modified().ok()
    }

    /// Registries that images certainly name. A finding about every registry names these.
    pub(crate) fn named(&self) -> Vec<String> {
        let mut names = self.registry.upstreams.clone();
        names.push(UNNAMED.to_owned());
        names.sort();
        names.dedup();
        names
    }

    /// The home folders, where users keep settings of their own.
    pub(crate) fn homes(&mut self) -> Vec<String> {
        let mut homes = self.list("home");
        homes.push("root".to_owned());
        homes.retain(|home| self.is_folder(home));
        homes
    }
}

/// Where a path below a root lies on this machine, and the links on the way. Links are followed within the root.
pub(crate) fn follow(root: &Path, path: &str) -> io::Result<(PathBuf, Vec<PathBuf>)> {
    let parts = |path: &Path| -> VecDeque<OsString> {
        path.components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            })
            .collect()
    };
    let (mut waiting, mut done, mut links) = (parts(Path::new(path)), PathBuf::new(), Vec::new());
    while let Some(part) = waiting.pop_front() {
        if part == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&part);
        match fs::read_link(root.join(&next)) {
            Ok(target) => {
                links.push(root.join(&next));
                if links.len() > LINKS {
                    return Err(io::Error::other("its links go round in a circle"));
                }
                if target.is_absolute() {
                    done = PathBuf::new();
                }
                let mut further = parts(&target);
                further.append(&mut waiting);
                waiting = further;
            }
            // It is not a link, or does not exist.
            Err(_) => done = next,
        }
    }
    Ok((root.join(done), links))
}

/// Opens a file that was regular when it was looked at. If it is not regular by now, this follows no link and waits for
/// nobody.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Some registries and all others, as the subject of a sentence.
pub(crate) fn and_others(names: &[String]) -> String {
    if names.is_empty() { "all others".to_owned() } else { format!("{} and all others", names.join(", ")) }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
