//! [`Part`]: a range of bytes in a file or in memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The bytes of one file of a layout: a file of its own, a range of an archive, or memory.
#[derive(Clone, Debug)]
pub struct Part {
    bytes: Bytes,
    at: u64,
    left: u64,
}

#[derive(Clone, Debug)]
enum Bytes {
    File(Arc<File>),
    Memory(Arc<[u8]>),
}

impl Part {
    pub(crate) fn new(file: Arc<File>, at: u64, size: u64) -> Self {
        Self { bytes: Bytes::File(file), at, left: size }
    }

    /// A manifest that this crate made in memory.
    pub(crate) fn made(bytes: &Arc<[u8]>) -> Self {
        Self { bytes: Bytes::Memory(Arc::clone(bytes)), at: 0, left: bytes.len() as u64 }
    }

    /// How many bytes are left to read.
    pub fn size(&self) -> u64 {
        self.left
    }

    /// The offset in the archive. Two parts of one archive with the same offset and size are the same bytes.
    pub(crate) fn begins(&self) -> u64 {
        self.at
    }
}

/// Fails if the file became shorter since the part was made.
impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let n = match &self.bytes {
            Bytes::File(file) => file.read_at(&mut buffer[..most], self.at)?,
            Bytes::Memory(bytes) => {
                let at = usize::try_from(self.at).unwrap_or(usize::MAX);
                bytes.get(at..).unwrap_or_default().read(&mut buffer[..most])?
            }
        };
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}
