//! Reads a file's content piece by piece: only the piece that is asked for is in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::ElfProblem;

/// A part of a file.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    file: &'a File,
    start: u64,
    size: u64,
}

impl<'a> Part<'a> {
    /// The whole file.
    pub(super) fn whole(file: &'a File) -> io::Result<Self> {
        Ok(Self { file, start: 0, size: file.metadata()?.len() })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The part of `size` bytes from `offset` on; `None` if it has fewer.
    pub(super) fn part(&self, offset: u64, size: u64) -> Option<Self> {
        let end = offset.checked_add(size)?;
        (end <= self.size).then_some(Self { file: self.file, start: self.start.checked_add(offset)?, size })
    }

    /// Reads exactly `size` bytes from `offset` on. The caller has to limit `size`, because so much is held in memory.
    pub(super) fn read(&self, offset: u64, size: usize, what: &'static str) -> Result<Vec<u8>, ElfProblem> {
        let part = self.part(offset, size as u64).ok_or(ElfProblem::Outside(what))?;
        let mut bytes = vec![0; size];
        part.file.read_exact_at(&mut bytes, part.start).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ElfProblem::Outside(what),
            _ => ElfProblem::Read(e),
        })?;
        Ok(bytes)
    }

    /// Reads a text of at most `longest` bytes that ends with a zero byte, or with the part.
    pub(super) fn text(&self, offset: u64, longest: usize, what: &'static str) -> Result<String, ElfProblem> {
        let left = self.size.checked_sub(offset).ok_or(ElfProblem::Outside(what))?;
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(longest + 1);
        let bytes = self.read(offset, size, what)?;
        match bytes.iter().position(|byte| *byte == 0) {
            Some(end) => Ok(String::from_utf8_lossy(&bytes[..end]).into_owned()),
            None if size <= longest => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            None => Err(ElfProblem::TooMany { what: "bytes in a name", limit: longest as u64 }),
        }
    }
}
