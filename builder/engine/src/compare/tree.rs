//! The record of a folder's content.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hab_oci::{Digest, DigestError, shown};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::folder::{Found, check_path, check_target};
use super::{CompareError, Folder, NameProblem, TreeLimits};

/// A folder's files, symbolic links and empty directories, sorted by the bytes of their paths. Times and owners are not
/// part of it, because images have their own.
///
/// It serialises as a list of `{"path", "sha256", "size", "mode"}`, `{"path", "link"}`, `{"path", "same_as"}` and
/// `{"path", "directory": true}`.
#[derive(Clone, Debug)]
pub struct Tree {
    folder: Option<Arc<Folder>>,
    entries: Vec<TreeEntry>,
}

/// A path, and what is at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Wire", try_from = "Wire")]
pub struct TreeEntry {
    /// The path below the root, its components joined by `/`.
    pub path: String,
    /// What is at the path.
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
    /// Another name of the file at this path, which sorts before it.
    HardLink(String),
    /// An empty directory; others are implied by their entries.
    Directory,
}

impl Tree {
    /// Records the folder `root`; a link in its place is an error. The caller must own the folders that lead there.
    pub fn scan(root: &Path, limits: &TreeLimits) -> Result<Self, CompareError> {
        let folder = Folder::open(root)?;
        let mut all = BTreeMap::new();
        folder.walk(limits, &mut |path, found| {
            all.insert(path, found);
            Ok(())
        })?;
        let mut first_names = BTreeMap::new();
        let mut entries = Vec::with_capacity(all.len());
        for (path, found) in all {
            let node = match found {
                Found::File { size, executable, identity } => {
                    let first = identity.map(|file| first_names.entry(file).or_insert_with(|| path.clone()));
                    match first {
                        Some(first) if *first != path => Node::HardLink(first.clone()),
                        _ => file(&folder, &path, size, executable)?,
                    }
                }
                Found::Link(target) => Node::Link(target),
                Found::Empty => Node::Directory,
            };
            entries.push(TreeEntry { path, node });
        }
        Ok(Self { folder: Some(Arc::new(folder)), entries })
    }

    /// The same record, whose files are read below `folder`.
    #[must_use]
    pub fn within(mut self, folder: Folder) -> Self {
        self.folder = Some(Arc::new(folder));
        self
    }

    /// The folder of the tree's files; `None` if the tree was read from a record.
    pub fn folder(&self) -> Option<&Arc<Folder>> {
        self.folder.as_ref()
    }

    /// The entries, sorted by the bytes of their paths.
    pub fn entries(&self) -> &[TreeEntry] {
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
}

/// Trees are equal if their entries are, in whatever folders they lie.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Tree {}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.entries.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::<TreeEntry>::deserialize(deserializer)?;
        if !entries.is_sorted_by(|a, b| a.path < b.path) {
            return Err(serde::de::Error::custom("the entries of a tree are not sorted by path"));
        }
        let tree = Self { folder: None, entries };
        let is_file = |path: &str| matches!(tree.get(path), Some(Node::File { .. }));
        let stray = tree.entries.iter().find(|e| matches!(&e.node, Node::HardLink(to) if !is_file(to)));
        match stray {
            None => Ok(tree),
            Some(stray) => {
                Err(serde::de::Error::custom(format!("{:?} is a hard link to no file", shown(&stray.path))))
            }
        }
    }
}

fn file(folder: &Folder, path: &str, expected: u64, executable: bool) -> Result<Node, CompareError> {
    let read = |source| CompareError::Read { path: path.to_owned(), source };
    let (digest, size) = Digest::of_reader(folder.file(path).map_err(read)?).map_err(read)?;
    if size != expected {
        return Err(read(std::io::Error::other("its size changed while it was read")));
    }
    Ok(Node::File { digest, size, executable })
}

/// An entry as it is written to JSON.
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
    #[serde(skip_serializing_if = "Option::is_none", default)]
    same_as: Option<String>,
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

/// Why an entry of a record is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The fields are not those of exactly one kind.
    #[error("{path:?} does not have the fields of one kind: file (sha256, size, mode), link, same_as or \
         directory", path = shown(.0))]
    Kind(String),
    /// No image may have that path or link.
    #[error("{path:?}: {problem}", path = shown(path))]
    Name {
        /// The path.
        path: String,
        /// What is wrong with the path, or with the symbolic link's target.
        problem: NameProblem,
    },
    /// The digest is not valid.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl From<TreeEntry> for Wire {
    fn from(TreeEntry { path, node }: TreeEntry) -> Self {
        let empty =
            Self { path, sha256: None, size: None, mode: None, link: None, same_as: None, directory: false };
        match node {
            Node::File { digest, size, executable } => Self {
                sha256: Some(digest.hex().to_owned()),
                size: Some(size),
                mode: Some(if executable { WireMode::Executable } else { WireMode::Plain }),
                ..empty
            },
            Node::Link(target) => Self { link: Some(target), ..empty },
            Node::HardLink(first) => Self { same_as: Some(first), ..empty },
            Node::Directory => Self { directory: true, ..empty },
        }
    }
}

impl TryFrom<Wire> for TreeEntry {
    type Error = EntryError;

    fn try_from(wire: Wire) -> Result<Self, EntryError> {
        let target = wire.link.as_deref().map_or(Ok(()), |target| check_target(&wire.path, target));
        if let Err(problem) = check_path(&wire.path).and(target) {
            return Err(EntryError::Name { path: wire.path, problem });
        }
        let node = match (wire.sha256, wire.size, wire.mode, wire.link, wire.same_as, wire.directory) {
            (Some(hex), Some(size), Some(mode), None, None, false) => {
                let digest = Digest::from_sha256_hex(&hex)?;
                Node::File { digest, size, executable: mode == WireMode::Executable }
            }
            (None, None, None, Some(target), None, false) => Node::Link(target),
            (None, None, None, None, Some(first), false) if first < wire.path => Node::HardLink(first),
            (None, None, None, None, None, true) => Node::Directory,
            _ => return Err(EntryError::Kind(wire.path)),
        };
        Ok(Self { path: wire.path, node })
    }
}
