//! Compares two trees, and finds where they first differ.

use std::cmp::Ordering;
use std::fmt;

use hab_oci::shown;

use super::locate::FirstDifference;
use super::tree::{Node, Tree, TreeEntry};

/// A difference between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path that differs.
    pub path: String,
    /// The kind of difference.
    pub what: What,
}

/// What differs at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The path is in the first tree only.
    OnlyFirst,
    /// The path is in the second tree only.
    OnlySecond,
    /// The kinds differ: a file and a link, for example.
    Kind {
        /// The kind in the first tree.
        first: &'static str,
        /// The kind in the second tree.
        second: &'static str,
    },
    /// The file is executable in one tree only.
    Mode {
        /// Whether it is executable in the first tree.
        first: bool,
        /// Whether it is executable in the second tree.
        second: bool,
    },
    /// The links have different targets.
    Target {
        /// The target in the first tree.
        first: String,
        /// The target in the second tree.
        second: String,
    },
    /// The bytes differ; the place is known if both files could still be read.
    Content(Option<FirstDifference>),
}

impl std::error::Error for Difference {}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = |executable: &bool| if *executable { "0755" } else { "0644" };
        write!(f, "{}: ", shown(&self.path))?;
        match &self.what {
            What::OnlyFirst => write!(f, "only the first run wrote it"),
            What::OnlySecond => write!(f, "only the second run wrote it"),
            What::Kind { first, second } => write!(f, "a {first} in the first run, a {second} in the second"),
            What::Mode { first, second } => write!(f, "mode {} vs {}", mode(first), mode(second)),
            What::Target { first, second } => {
                write!(f, "link to {:?} vs {:?}", shown(first), shown(second))
            }
            What::Content(Some(place)) => write!(f, "{place}"),
            What::Content(None) => write!(f, "other content"),
        }
    }
}

/// Compares two trees; fails with the first difference in the order of paths. Contents are not read, so
/// [`What::Content`] has no place; [`super::locate`] finds it.
pub fn compare(first: &Tree, second: &Tree) -> Result<(), Difference> {
    pairs(first, second).next().map_or(Ok(()), Err)
}

/// The number of paths that differ.
pub fn differing(first: &Tree, second: &Tree) -> usize {
    pairs(first, second).count()
}

/// Walks both sorted lists at once.
fn pairs<'a>(first: &'a Tree, second: &'a Tree) -> impl Iterator<Item = Difference> + 'a {
    let (mut a, mut b) = (first.entries().iter().peekable(), second.entries().iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.path.cmp(&b.path),
            };
            let difference = match order {
                Ordering::Less => a.next().map(|e| (e, What::OnlyFirst)),
                Ordering::Greater => b.next().map(|e| (e, What::OnlySecond)),
                Ordering::Equal => a.next().zip(b.next()).and_then(|(a, b)| Some((a, nodes(a, b)?))),
            };
            if let Some((entry, what)) = difference {
                return Some(Difference { path: entry.path.clone(), what });
            }
        }
    })
}

fn nodes(first: &TreeEntry, second: &TreeEntry) -> Option<What> {
    match (&first.node, &second.node) {
        (a, b) if a == b => None,
        (Node::File { digest: a, executable: ax, .. }, Node::File { digest: b, executable: bx, .. }) => {
            Some(if a == b { What::Mode { first: *ax, second: *bx } } else { What::Content(None) })
        }
        (Node::Link(a), Node::Link(b)) | (Node::HardLink(a), Node::HardLink(b)) => {
            Some(What::Target { first: a.clone(), second: b.clone() })
        }
        (a, b) => Some(What::Kind { first: kind(a), second: kind(b) }),
    }
}

fn kind(node: &Node) -> &'static str {
    match node {
        Node::File { .. } => "file",
        Node::Link(_) => "symbolic link",
        Node::HardLink(_) => "hard link",
        Node::Directory => "directory",
    }
}
