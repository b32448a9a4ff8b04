//! The answers to statfs(2) and fstatfs(2): a made-up file system that does not depend on the disk below, its size or
//! how full it is, and that differs in the other run.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2};
use rustix::io::Errno;

use crate::spec::Spec;

/// `struct statfs` of a 64-bit kernel, in words of eight bytes.
const WORDS: usize = 15;
const BLOCK: u64 = 4096;
/// The longest file name.
const NAME: u64 = 255;
/// Magic numbers of linux/magic.h; the C library's own constants have another type.
const XFS: u64 = 0x5846_5342;
const EXT4: u64 = 0xef53;
const TMPFS: u64 = 0x0102_1994;
/// The disk size that a command without a disk limit sees.
const UNLIMITED: u64 = 1 << 40;
/// `ST_VALID | ST_NOSUID | ST_NODEV`.
const FLAGS: u64 = 0x20 | 2 | 4;

/// The file systems that the command sees.
pub(crate) struct FileSystems {
    other: bool,
    disk: u64,
    scratch: u64,
}

impl FileSystems {
    pub(crate) fn of(spec: &Spec, other: bool) -> Self {
        Self { other, disk: spec.limits.disk.unwrap_or(UNLIMITED), scratch: spec.limits.scratch }
    }

    /// The answer for an open file. `None` below `/proc`, where the kernel's own answer is the same everywhere.
    pub(crate) fn about(&self, file: impl AsFd) -> Result<Option<Vec<u8>>, Errno> {
        if fstatfs(&file)?.f_type == libc::PROC_SUPER_MAGIC {
            return Ok(None);
        }
        // The C library accepts `/dev/shm` only if it is in memory.
        let shared = open_in(rustix::fs::CWD, b"/dev/shm").and_then(fstat)?.st_dev;
        Ok(Some(if fstat(&file)?.st_dev == shared {
            words(TMPFS, self.scratch)
        } else {
            words(if self.other { XFS } else { EXT4 }, self.disk)
        }))
    }
}

/// Opens a path to ask about it, as a process whose working folder is `folder` would.
pub(crate) fn open_in(folder: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    // A magic link of /proc would lead to a file of the helper.
    openat2(folder, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
}

fn words(kind: u64, size: u64) -> Vec<u8> {
    let (blocks, files) = (size / BLOCK, size / 8192 + 4096);
    let free = blocks - blocks / 8;
    let words: [u64; WORDS] =
        [kind, BLOCK, blocks, free, free, files, files - 64, 0, NAME, BLOCK, FLAGS, 0, 0, 0, 0];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_size_of_the_kernels_structure() {
        assert_eq!(words(EXT4, 1 << 30).len(), size_of::<libc::statfs>());
    }
}
