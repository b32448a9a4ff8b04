//! Reads with progress, and stops when the person asks.

use std::cell::Cell;
use std::io::{self, Read};
use std::sync::atomic::Ordering;

use crate::progress::Progress;

/// After how many bytes progress is told again.
const PIECE: u64 = 1 << 20;

/// Counts the bytes that it reads, and fails when the person asks to stop.
pub struct ProgressReader<'a, R> {
    /// The reader underneath.
    pub inner: R,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
    /// What is counted, for people.
    pub what: &'a str,
    /// Bytes read so far, by all readers with this count.
    pub done: &'a Cell<u64>,
    /// Bytes to read in total.
    pub total: u64,
}

impl<R: Read> Read for ProgressReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.cancel().load(Ordering::Relaxed) {
            return Err(io::Error::other("it was stopped"));
        }
        let read = self.inner.read(buffer)?;
        let before = self.done.get();
        let done = before + read as u64;
        self.done.set(done);
        if done / PIECE != before / PIECE || done == self.total {
            self.progress.amount(self.what, done, Some(self.total));
        }
        Ok(read)
    }
}
