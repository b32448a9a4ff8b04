//! A stretch of a file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The bytes of one file of a layout, wherever they lie: a file of its own, or a stretch of an archive.
#[derive(Clone, Debug)]
pub struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Part {
    pub(crate) fn new(file: Arc<File>, at: u64, size: u64) -> Self {
        Self { file, at, left: size }
    }

    /// How many bytes are left to be read.
    pub fn size(&self) -> u64 {
        self.left
    }
}

/// Ends with an error where the file is shorter than it was when it was looked at.
impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.file.read_at(&mut buffer[..most], self.at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}
