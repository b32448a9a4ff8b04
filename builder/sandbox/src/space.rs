//! How much disk a run gets, and what keeps it from taking more.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What keeps a run from writing more than its disk limit to its writable binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskLimiter {
    /// A file system in an image file, of the limit's size and a small slack ([`crate::Volume`]). Only root has it.
    Image,
    /// A file system in memory, likewise.
    Memory,
    /// Counting what the binds hold, several times a second: what is written between two counts can pass it.
    Counted,
}

impl fmt::Display for DiskLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "a file system of its own size",
            Self::Memory => "a file system of its own size, in memory",
            Self::Counted => "counting",
        })
    }
}

/// What a file system of its own size has beyond the limit: the run is stopped in there, and the kernel's "no space
/// left" is only for one that fills all of it between two samples.
pub(crate) fn slack(most: u64) -> u64 {
    most / 64 + (16 << 20)
}

/// The files that go with `most` bytes: empty ones take no space, and yet they fill a disk.
pub(crate) fn most_files(most: u64) -> u64 {
    16_384 + most / 8192
}
