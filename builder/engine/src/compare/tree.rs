//! The record of a folder's content.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hab_oci::{Digest, DigestError};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CompareError, Limits};

/// A folder's files, symbolic links and empty directories, sorted by the bytes of their paths. Times and owners are
/// not part of it: images have their own.
///
/// It serialises as a list of `{"path", "sha256", "size", "mode"}`, `{"path", "link"}` and
/// `{"path", "directory": true}`.
#[derive(Clone, Debug, Eq)]
pub struct Tree {
    root: Option<PathBuf>,
    entries: Vec<Entry>,
}

/// Something at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Wire", try_from = "Wire")]
pub struct Entry {
    /// Below the root, components joined by `/`.
    pub path: String,
    /// What it is.
    pub node: Node,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// sha256 of the content.
        digest: Digest,
        /// Bytes of content.
        size: u64,
        /// Whether any execute bit is set.
        executable: bool,
    },
    /// A symbolic link and its target, as written.
    Link(String),
    /// A directory with nothing in it; those with something are implied by that.
    Directory,
}

impl Tree {
    /// Records the folder `root`.
    pub fn scan(root: &Path, limits: &Limits) -> Result<Self, CompareError> {
        // A build owns the folder above and may have put a link to anywhere in its place.
        let top = fs::symlink_metadata(root)
            .map_err(|source| CompareError::Read { path: root.to_owned(), source })?;
        if !top.is_dir() {
            return Err(CompareError::Special { path: root.to_owned() });
        }
        let mut scan = Scan { root, limits, entries: Vec::new(), seen: 0, bytes: 0 };
        scan.folder("", root)?;
        let mut entries = scan.entries;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { root: Some(root.to_owned()), entries })
    }

    /// The entries, sorted by the bytes of their paths.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is at `path`.
    pub fn get(&self, path: &str) -> Option<&Node> {
        let found = self.entries.binary_search_by(|e| e.path.as_str().cmp(path)).ok()?;
        Some(&self.entries[found].node)
    }

    /// Whether there is neither a file nor a link: a build that wrote nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(|e| e.node == Node::Directory)
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.entries.iter().map(|e| if let Node::File { size, .. } = e.node { size } else { 0 }).sum()
    }

    /// Where the content of `path` is, unless this tree was read from a record.
    pub(super) fn file(&self, path: &str) -> Option<PathBuf> {
        self.root.as_ref().map(|root| root.join(path))
    }
}

/// Where a tree lies is not part of what it is.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.entries.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::<Entry>::deserialize(deserializer)?;
        if entries.is_sorted_by(|a, b| a.path < b.path) {
            Ok(Self { root: None, entries })
        } else {
            Err(serde::de::Error::custom("the entries of a tree are not sorted by path"))
        }
    }
}

struct Scan<'a> {
    root: &'a Path,
    limits: &'a Limits,
    entries: Vec<Entry>,
    seen: usize,
    bytes: u64,
}

impl Scan<'_> {
    fn folder(&mut self, path: &str, folder: &Path) -> Result<(), CompareError> {
        let read = |source| CompareError::Read { path: folder.to_owned(), source };
        let mut empty = true;
        for child in fs::read_dir(folder).map_err(read)? {
            let child = child.map_err(read)?;
            empty = false;
            self.seen += 1;
            if self.seen > self.limits.entries {
                return Err(CompareError::TooManyEntries {
                    root: self.root.to_owned(),
                    limit: self.limits.entries,
                });
            }
            let place = child.path();
            let name = child.file_name();
            let name = name.to_str().ok_or_else(|| CompareError::Name { path: place.clone() })?;
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let kind =
                child.file_type().map_err(|source| CompareError::Read { path: place.clone(), source })?;
            if kind.is_dir() {
                self.folder(&path, &place)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(&place)
                    .map_err(|source| CompareError::Read { path: place.clone(), source })?;
                let target = str::from_utf8(target.as_os_str().as_bytes())
                    .map_err(|_| CompareError::Name { path: place.clone() })?
                    .to_owned();
                self.entries.push(Entry { path, node: Node::Link(target) });
            } else if kind.is_file() {
                let node = self.file(&place)?;
                self.entries.push(Entry { path, node });
            } else {
                return Err(CompareError::Special { path: place });
            }
        }
        if empty && !path.is_empty() {
            self.entries.push(Entry { path: path.to_owned(), node: Node::Directory });
        }
        Ok(())
    }

    fn file(&mut self, place: &Path) -> Result<Node, CompareError> {
        let read = |source: io::Error| CompareError::Read { path: place.to_owned(), source };
        let file = open(place).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        self.bytes = self.bytes.saturating_add(metadata.len());
        if self.bytes > self.limits.bytes {
            return Err(CompareError::TooManyBytes { root: self.root.to_owned(), limit: self.limits.bytes });
        }
        let (digest, size) = Digest::of_reader(&file).map_err(read)?;
        Ok(Node::File { digest, size, executable: metadata.permissions().mode() & 0o111 != 0 })
    }
}

/// Opens a file that a build wrote: never through a link in its place, and never waiting for a fifo's other end.
pub(super) fn open(place: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(openat(CWD, place, flags, Mode::empty())?))
}

/// An entry as it is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    mode: Option<WireMode>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    link: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    directory: bool,
}

/// The mode that the file has in an image.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum WireMode {
    #[serde(rename = "0755")]
    Executable,
    #[serde(rename = "0644")]
    Plain,
}

/// Why a written entry is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The fields are not those of exactly one kind.
    #[error("{0:?} is neither a file (sha256, size, mode), a link nor a directory")]
    Kind(String),
    /// The digest is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl From<Entry> for Wire {
    fn from(Entry { path, node }: Entry) -> Self {
        let empty = Self { path, sha256: None, size: None, mode: None, link: None, directory: false };
        match node {
            Node::File { digest, size, executable } => Self {
                sha256: Some(digest.hex().to_owned()),
                size: Some(size),
                mode: Some(if executable { WireMode::Executable } else { WireMode::Plain }),
                ..empty
            },
            Node::Link(target) => Self { link: Some(target), ..empty },
            Node::Directory => Self { directory: true, ..empty },
        }
    }
}

impl TryFrom<Wire> for Entry {
    type Error = EntryError;

    fn try_from(wire: Wire) -> Result<Self, EntryError> {
        let node = match (wire.sha256, wire.size, wire.mode, wire.link, wire.directory) {
            (Some(hex), Some(size), Some(mode), None, false) => {
                let digest = Digest::from_sha256_hex(&hex)?;
                Node::File { digest, size, executable: mode == WireMode::Executable }
            }
            (None, None, None, Some(target), false) => Node::Link(target),
            (None, None, None, None, true) => Node::Directory,
            _ => return Err(EntryError::Kind(wire.path)),
        };
        Ok(Self { path: wire.path, node })
    }
}
