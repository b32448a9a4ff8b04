//! How much disk space a run gets, and what limits it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The mechanism that keeps a run from writing more than its disk limit to its writable binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskLimiter {
    /// A file system in an image file, of the limit's size and a small slack ([`crate::Volume`]). Only root can have
    /// it.
    Image,
    /// A file system in memory, of the same size.
    Memory,
    /// A count of what the binds hold, several times a second. What is written between two counts can exceed the limit.
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

/// How much larger than the limit a file system of its own size is. A sample finds the run above its limit and stops
/// it; only a run that fills all of this slack between two samples meets the kernel's "no space left".
pub(crate) fn slack(most: u64) -> u64 {
    most / 64 + (16 << 20)
}

/// The most files for a limit of `most` bytes: empty files take none of the bytes, and yet they fill a disk.
pub(crate) fn most_files(most: u64) -> u64 {
    16_384 + most / 8192
}
