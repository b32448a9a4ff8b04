//! A layer that is being filled.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io::{self, Cursor, Read};

use crate::{ImageError, PathProblem, date};

/// A file's content.
pub(crate) type Content<'a> = Box<dyn Read + Send + 'a>;
/// Opens a file's content. It is called once, on another thread, when the layer is packed.
pub(crate) type Open<'a> = Box<dyn FnOnce() -> io::Result<Content<'a>> + Send + 'a>;

/// A layer: files, hard links, symbolic links and directories by their paths.
///
/// Everything belongs to uid and gid 0 and has the same time. Executables and directories have the mode 0755, other
/// files 0644. Only a [`Directory`] may differ. Directories above an entry need not be added.
///
/// ```
/// # use hab_image::{Compression, Layer};
/// let mut layer = Layer::new(1_700_000_000)?;
/// layer.bytes("etc/passwd", false, "bitcoin:x:1000:1000::/:\n")?;
/// layer.link("bin", "usr/bin")?;
/// let packed = layer.pack(Compression::default(), 2, &mut Vec::new())?;
/// assert_eq!(packed.tar_size, 3072);
/// # Ok::<(), hab_image::ImageError>(())
/// ```
pub struct Layer<'a> {
    pub(crate) epoch: u64,
    pub(crate) nodes: BTreeMap<String, Node<'a>>,
}

/// A directory's mode and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The mode, at most 0o7777.
    pub mode: u32,
    /// The user's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
}

impl Default for Directory {
    /// Mode 0755, owned by root.
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0 }
    }
}

/// What a layer has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At<'a> {
    /// A file.
    File,
    /// A symbolic link to this target.
    Link(&'a str),
}

pub(crate) enum Node<'a> {
    File {
        executable: bool,
        size: u64,
        open: Open<'a>,
    },
    Link(String),
    HardLink {
        executable: bool,
        target: String,
    },
    Directory(Directory),
    /// A directory that was not added itself, but has entries below it.
    Implied,
}

impl<'a> Layer<'a> {
    /// An empty layer whose entries will all have the time `epoch`, in seconds since 1970.
    pub fn new(epoch: i64) -> Result<Self, ImageError> {
        let in_range = (0..=date::LATEST).contains(&epoch);
        let epoch = u64::try_from(epoch).ok().filter(|_| in_range).ok_or(ImageError::Epoch(epoch))?;
        Ok(Self { epoch, nodes: BTreeMap::new() })
    }

    /// Adds a file of exactly `size` bytes, which the reader from `open` has to give when the layer is packed.
    pub fn file<R: Read + Send + 'a>(
        &mut self,
        path: &str,
        executable: bool,
        size: u64,
        open: impl FnOnce() -> io::Result<R> + Send + 'a,
    ) -> Result<(), ImageError> {
        let open: Open<'a> = Box::new(move || open().map(|reader| Box::new(reader) as Content<'a>));
        self.add(path, Node::File { executable, size, open })
    }

    /// Adds a file with this content.
    pub fn bytes(
        &mut self,
        path: &str,
        executable: bool,
        content: impl Into<Vec<u8>>,
    ) -> Result<(), ImageError> {
        let content = content.into();
        self.file(path, executable, content.len() as u64, move || Ok(Cursor::new(content)))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<(), ImageError> {
        if target.is_empty() || target.contains('\0') {
            let problem = if target.is_empty() { PathProblem::Component } else { PathProblem::Nul };
            return Err(ImageError::Path { path: target.to_owned(), problem });
        }
        self.add(path, Node::Link(target.to_owned()))
    }

    /// Adds a hard link to a file that was added before. Its path must sort before this one, so that it comes first in
    /// a tar.
    pub fn hard_link(&mut self, path: &str, target: &str) -> Result<(), ImageError> {
        match self.nodes.get(target) {
            Some(Node::File { executable, .. }) if target < path => {
                let node = Node::HardLink { executable: *executable, target: target.to_owned() };
                self.add(path, node)
            }
            _ => Err(ImageError::HardLink { path: path.to_owned(), target: target.to_owned() }),
        }
    }

    /// Adds a directory. Only one that is empty, or has another mode or owner, needs this.
    pub fn directory(&mut self, path: &str, directory: Directory) -> Result<(), ImageError> {
        if directory.mode > 0o7777 {
            return Err(ImageError::Mode { path: path.to_owned(), mode: directory.mode });
        }
        self.add(path, Node::Directory(directory))
    }

    /// What the layer has at `path`; `None` if that is a directory or nothing.
    pub fn at(&self, path: &str) -> Option<At<'_>> {
        match self.nodes.get(path)? {
            Node::File { .. } | Node::HardLink { .. } => Some(At::File),
            Node::Link(target) => Some(At::Link(target)),
            Node::Directory(_) | Node::Implied => None,
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn add(&mut self, path: &str, node: Node<'a>) -> Result<(), ImageError> {
        check(path).map_err(|problem| ImageError::Path { path: path.to_owned(), problem })?;
        for (end, _) in path.match_indices('/') {
            match self.nodes.entry(path[..end].to_owned()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(Node::Implied);
                }
                Entry::Occupied(above) => match above.get() {
                    Node::Implied | Node::Directory(_) => {}
                    Node::File { .. } | Node::Link(_) | Node::HardLink { .. } => {
                        return Err(ImageError::Parent {
                            path: path.to_owned(),
                            parent: above.key().clone(),
                        });
                    }
                },
            }
        }
        match self.nodes.entry(path.to_owned()) {
            Entry::Vacant(vacant) => {
                vacant.insert(node);
                Ok(())
            }
            Entry::Occupied(mut there) => match (there.get(), &node) {
                (Node::Implied, Node::Directory(_)) => {
                    there.insert(node);
                    Ok(())
                }
                (Node::Directory(a), Node::Directory(b)) if a == b => Ok(()),
                _ => Err(ImageError::Duplicate { path: path.to_owned() }),
            },
        }
    }
}

impl fmt::Debug for Layer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("epoch", &self.epoch).field("paths", &self.nodes.keys()).finish()
    }
}

fn check(path: &str) -> Result<(), PathProblem> {
    if path.starts_with('/') {
        return Err(PathProblem::Absolute);
    }
    for component in path.split('/') {
        match component {
            "" | "." | ".." => return Err(PathProblem::Component),
            _ if component.contains('\0') => return Err(PathProblem::Nul),
            _ if component.starts_with(".wh.") => return Err(PathProblem::Whiteout),
            _ => {}
        }
    }
    Ok(())
}
