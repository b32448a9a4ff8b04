//! Streams a file's bytes to a connection.
//!
//! Bytes in the page cache are sent from there if the connection can do that ([`FileQueue`]). Otherwise the
//! connection's own thread reads them: waking another thread would cost more than the copy. Bytes that must come from
//! the disk are read by a thread of their own. The pool hands out the chunk that came back last, so that few chunks are
//! in use, and those are in the processor's cache.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::sendfile::FileQueue;

/// Bytes of a chunk: large enough that the cost of a system call does not show, small enough for many clients at once
/// and for the processor's cache.
const CHUNK: usize = 256 << 10;
/// The most unused chunks in the pool.
const IDLE: usize = 16;

/// Bytes of a file, in order. Fails if the file is too short.
pub(crate) struct Chunks {
    file: Arc<File>,
    at: u64,
    left: u64,
    reading: Option<JoinHandle<io::Result<Chunk>>>,
}

impl Chunks {
    pub(crate) fn new(file: Arc<File>, first: u64, length: u64) -> Self {
        if length > CHUNK as u64 {
            // Only a hint: a failure does no harm.
            let _ = fadvise(&file, first, None, Advice::Sequential);
        }
        Self { file, at: first, left: length, reading: None }
    }

    fn passed(&mut self, bytes: Bytes) -> Bytes {
        self.at += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        bytes
    }
}

impl Stream for Chunks {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(cx)).map_err(io::Error::other).flatten();
            self.reading = None;
            return Poll::Ready(Some(read.map(|chunk| self.passed(chunk.into()))));
        }
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(place) = FileQueue::place(&self.file, self.at, self.left) {
            return Poll::Ready(Some(Ok(self.passed(place))));
        }
        let mut chunk = Chunk::take(self.left);
        match chunk.read_cached(&self.file, self.at) {
            Ok(0) => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
            Ok(_) => Poll::Ready(Some(Ok(self.passed(chunk.into())))),
            Err(_) => {
                let (file, at) = (self.file.clone(), self.at);
                self.reading = Some(spawn_blocking(move || chunk.read(&file, at)));
                self.poll_next(cx)
            }
        }
    }
}

/// Guards the unused chunks; held to push or pop one.
static POOL: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

struct Chunk {
    /// Always `CHUNK` bytes, until it is dropped.
    bytes: Box<[u8]>,
    length: usize,
}

impl Chunk {
    /// Takes a chunk from the pool, or makes one, for `wanted` bytes or as many of them as fit.
    fn take(wanted: u64) -> Self {
        let pooled = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = pooled.unwrap_or_else(|| vec![0; CHUNK].into());
        Self { bytes, length: usize::try_from(wanted).map_or(CHUNK, |wanted| wanted.min(CHUNK)) }
    }

    /// Reads as many bytes as are cached, without waiting for the disk; returns how many.
    fn read_cached(&mut self, file: &File, at: u64) -> rustix::io::Result<usize> {
        let room = &mut self.bytes[..self.length];
        let read = match preadv2(file, &mut [IoSliceMut::new(room)], at, ReadWriteFlags::NOWAIT) {
            // Fewer bytes than asked for only where the file or its cached part ends.
            Ok(read) => read,
            Err(Errno::INTR) => return Err(Errno::AGAIN),
            Err(error) => return Err(error),
        };
        self.length = read;
        Ok(read)
    }

    fn read(mut self, file: &File, at: u64) -> io::Result<Self> {
        file.read_exact_at(&mut self.bytes[..self.length], at)?;
        Ok(self)
    }
}

impl From<Chunk> for Bytes {
    fn from(chunk: Chunk) -> Self {
        Self::from_owner(chunk)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < IDLE {
            pool.push(bytes);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn any_part_of_a_file_comes_whole_and_in_order() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..u32::try_from(CHUNK).unwrap()).flat_map(u32::to_le_bytes).collect();
        file.write_all(&bytes).unwrap();
        let file = Arc::new(file);
        for (first, length) in
            [(0, bytes.len()), (0, 0), (5, CHUNK), (CHUNK - 1, CHUNK + 2), (bytes.len() - 1, 1)]
        {
            let chunks = Chunks::new(file.clone(), first as u64, length as u64);
            let got = chunks.map(Result::unwrap).collect::<Vec<_>>().await.concat();
            assert!(got == bytes[first..first + length], "{first} {length}");
        }
    }

    #[tokio::test]
    async fn a_file_that_ends_too_early_is_an_error_and_not_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        let chunks: Vec<_> = Chunks::new(Arc::new(file), 0, 4).take(3).collect().await;
        assert!(chunks.last().unwrap().is_err());
    }
}
