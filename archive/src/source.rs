//! Where an archive's bytes come from.

use std::io::{self, Read};

/// Bytes that are read in order, and may be skipped.
pub trait Source: Read {
    /// Skips `bytes` bytes; an [`io::ErrorKind::UnexpectedEof`] error if there are fewer.
    ///
    /// This default reads the bytes and throws them away; a source that can seek should do better.
    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        let mut waste = [0; 4096];
        while bytes > 0 {
            let most = usize::try_from(bytes).unwrap_or(waste.len()).min(waste.len());
            match self.read(&mut waste[..most]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => bytes -= n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Any reader as a [`Source`].
#[derive(Debug)]
pub struct Stream<R>(pub R);

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Source for Stream<R> {}

impl Source for &[u8] {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let rest = usize::try_from(bytes).ok().and_then(|bytes| self.get(bytes..));
        *self = rest.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}
