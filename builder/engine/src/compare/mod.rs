//! Records what a run left, and finds whether another run left the same.
//!
//! [`Tree::scan`] records a run's outputs. [`compare`] finds the first path that differs, and [`locate`] the place in
//! its file: the section of an ELF file, the member of a static library or the line of a text, and the offset.
//! [`missing_libraries`] and [`weakest`] check what the outputs need and how they were linked.
//!
//! The outputs were written by a build, which may be an attacker's. So nothing here follows a symbolic link out of
//! them, every walk is relative to a descriptor and does not recurse, every file is read piece by piece, and every
//! count, name and table has a limit. The engine also calls all of this in a separate process (`crate::worker`).

mod bytes;
mod difference;
mod elf;
mod error;
mod folder;
#[cfg(test)]
mod hostile;
mod locate;
mod needs;
#[cfg(test)]
mod tests;
mod tree;

pub use difference::{Difference, What, compare, differing};
pub use elf::{Hardening, Relro, hardening};
pub use error::{CompareError, ElfProblem, NameProblem};
pub use folder::Folder;
pub use locate::{FirstDifference, Region, locate};
pub use needs::{Lacking, Missing, Need, Weak, missing_libraries, weakest};
use serde::{Deserialize, Serialize};
pub use tree::{EntryError, Node, Tree, TreeEntry};

/// How large a tree may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeLimits {
    /// Files, links and directories.
    pub entries: usize,
    /// The most bytes of all files together: a sparse file counts with its full length, a file with several names once.
    pub bytes: u64,
    /// Bytes of all paths and of all targets of links. They are kept in memory, in the build's record and in reports.
    pub names: usize,
}

impl Default for TreeLimits {
    /// Ten times as much as the largest recipe leaves.
    fn default() -> Self {
        Self { entries: 50_000, bytes: 16 << 30, names: 8 << 20 }
    }
}
