//! Reads with progress, and stops when the person asks.

use std::cell::Cell;
use std::io;
use std::sync::atomic::Ordering;

use crate::error::FarmError;
use crate::progress::Progress;
use crate::words::counted;

/// Counts the bytes that it reads, and fails when the person asks to stop.
pub struct ProgressReader<'a, R> {
    /// The reader underneath.
    pub inner: R,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
    /// Bytes read so far, by all readers with this count.
    pub done: &'a Cell<u64>,
    /// Bytes to read in total.
    pub total: u64,
}

impl<R: io::Read> io::Read for ProgressReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.cancel().load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let n = self.inner.read(buffer)?;
        self.done.set(self.done.get() + n as u64);
        self.progress.amount("done", self.done.get(), Some(self.total));
        Ok(n)
    }
}

/// Turns a failure into a stop, if the person asked to stop. `after` says what state is left.
pub fn stopped_or<T, E: Into<FarmError>>(
    progress: &dyn Progress,
    done: Result<T, E>,
    after: &'static str,
) -> Result<T, FarmError> {
    let stopped = progress.cancel().load(Ordering::Relaxed);
    done.map_err(|e| if stopped { FarmError::Stopped(after) } else { e.into() })
}

/// The numbers of tags, manifests, blobs and bytes, for people.
pub fn amounts(tags: usize, manifests: usize, blobs: usize, bytes: u64) -> String {
    let count = |number: usize, thing: &str| counted(number as u64, thing);
    format!(
        "{}, {}, {}, {}",
        count(tags, "tag"),
        count(manifests, "manifest"),
        count(blobs, "blob"),
        counted(bytes, "byte")
    )
}
