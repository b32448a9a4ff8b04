//! What a run left, and whether another run left the same.
//!
//! [`Tree::scan`] is the record of a run's outputs, [`compare`] says identical or names the first place where not:
//! the path, the section of an ELF file, the member of a static library or the line of a text, and the offset.
//! [`missing_libraries`] and [`hardening`] look at what the outputs need and how they were linked.
//!
//! The outputs were written by a build, so nothing here follows a symbolic link out of them.

mod difference;
mod elf;
mod error;
mod locate;
#[cfg(test)]
mod tests;
mod tree;

pub use difference::{Difference, What, compare, differences};
pub use elf::{Hardening, Missing, Need, Relro, hardening, missing_libraries};
pub use error::CompareError;
pub use locate::{Place, Region};
pub use tree::{Entry, EntryError, Node, Tree};

/// How large a tree may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, links and directories.
    pub entries: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 200_000, bytes: 16 << 30 }
    }
}
