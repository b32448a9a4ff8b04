//! Why a tree could not be looked at.

use std::io;
use std::path::PathBuf;

/// What stopped the scan of a tree, or the check of a file in it.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The system refused to read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A name that is not UTF-8 cannot be recorded.
    #[error("{path}: the name is not UTF-8; outputs need names that can be written down", path = path.display())]
    Name {
        /// The path.
        path: PathBuf,
    },
    /// A device, fifo or socket among the outputs.
    #[error("{path}: neither a file, a directory nor a symbolic link; outputs must be one of these", path = path.display())]
    Special {
        /// The path.
        path: PathBuf,
    },
    /// More than [`super::Limits::entries`].
    #[error("{root} holds more than {limit} entries", root = root.display())]
    TooManyEntries {
        /// The tree.
        root: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// More than [`super::Limits::bytes`].
    #[error("{root} holds more than {limit} bytes", root = root.display())]
    TooManyBytes {
        /// The tree.
        root: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// It begins as an ELF file and goes on as something else.
    #[error("{path}: not a valid ELF file", path = path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: object::read::Error,
    },
    /// The name of a library that an ELF file needs lies outside of the file.
    #[error("{path}: not a valid ELF file: a dynamic entry has no name", path = path.display())]
    ElfName {
        /// The file.
        path: PathBuf,
    },
}
