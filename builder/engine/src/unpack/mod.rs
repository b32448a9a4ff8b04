//! Unpacks archives from outside into a folder, safely and fast.
//!
//! Three kinds of callers: a toolchain is many Debian packages in one root ([`unpack_packages`]), a source is one
//! archive ([`unpack_archive`]), a smoke test needs an image's layers ([`unpack_layer`]). An archive is recognised by
//! its content, never by its name. No maintainer script runs, nothing is overwritten, and no entry can leave the root:
//! `place` says how.
//!
//! Modes are fixed to 0755 for directories and executables and 0644 for the rest, so setuid bits are gone. File times
//! are the archive's, but never later than [`Options::epoch`]; directories and symbolic links have exactly that time.
//! Nothing is synced, because unpacked files are a cache; the caller must remove a folder that was not finished.
//!
//! Start reading at [`Options`], then `worker`.

mod claims;
mod error;
mod format;
mod name;
mod order;
mod packages;
mod place;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use hab_archive::ar;

pub use error::{NameProblem, UnpackError};
pub use format::{Compression, Format};
pub use order::Order;
pub use packages::{Progress, Summary, unpack_archive, unpack_layer, unpack_packages};

use std::time::Instant;

/// How to unpack.
#[derive(Clone, Debug)]
pub struct Options {
    /// Leading components that are removed from every path; entries with no more than that many are left out.
    pub strip_components: usize,
    /// Make `bin`, `sbin`, `lib`, `lib32`, `lib64` and `libx32` links into `usr` first, and put their entries there.
    pub merged_usr: bool,
    /// Make absolute targets of symbolic links relative, so that they stay within the root when it is used as a
    /// sysroot: a linker script or a `libm.so` that points at `/lib/…` would otherwise mean the machine's own.
    pub relative_links: bool,
    /// The owner of everything, as (uid, gid); needs the privilege to give files away. `None`: this process's user.
    pub owner: Option<(u32, u32)>,
    /// Seconds since 1970: the latest time that any file has, and the time of every directory and symbolic link.
    pub epoch: i64,
    /// The order in which entries are created.
    pub order: Order,
    /// What happens to devices, fifos, sockets and sparse files.
    pub special: Special,
    /// The limits that stop a decompression bomb.
    pub limits: UnpackLimits,
    /// The time at which unpacking stops with an error.
    pub until: Option<Instant>,
    /// Symbolic links that are made after everything, as (path, target).
    pub links: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strip_components: 0,
            merged_usr: false,
            relative_links: false,
            owner: None,
            epoch: 0,
            order: Order::AsIs,
            special: Special::Refuse,
            limits: UnpackLimits::default(),
            until: None,
            links: Vec::new(),
        }
    }
}

/// What happens to entries that are neither files, directories nor links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Such entries are an error.
    Refuse,
    /// Such entries are left out.
    Skip,
}

/// The most that one call may unpack into a root. A caller that knows more of a source, such as a recipe's own limits,
/// sets lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of content, over all archives.
    pub bytes: u64,
    /// Bytes that everything takes on a disk, over all archives: content in whole blocks of 4 KiB, and a block for every
    /// entry. Counted before it is written.
    pub disk: u64,
    /// Entries, over all archives.
    pub entries: u64,
    /// Bytes of one path.
    pub path: usize,
    /// Bytes held in memory, if [`Order`] needs that.
    pub memory: u64,
}

impl Default for UnpackLimits {
    /// Ten times the largest toolchain so far (0.9 GB, 40 thousand entries).
    fn default() -> Self {
        Self { bytes: 16 << 30, disk: 32 << 30, entries: 1_000_000, path: 1024, memory: 1 << 30 }
    }
}

impl UnpackLimits {
    /// The reader's limits for one of the archives. `claims` counts the content over all of them as well. A
    /// decompressor also gives headers, padding and an end.
    fn of_one(&self) -> hab_archive::Limits {
        let decoded = self.bytes.saturating_add(self.entries.saturating_mul(2048)).saturating_add(1 << 20);
        let (entries, entry, total) = (self.entries, self.bytes, self.bytes);
        hab_archive::Limits { entries, entry, total, decoded, ..hab_archive::Limits::ORDINARY }
    }
}

/// The part of a path that an error needs.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(hab_oci::LONGEST)]).into_owned()
}
