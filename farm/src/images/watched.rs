//! Reading with a person who watches and may ask to stop.

use std::cell::Cell;
use std::io;
use std::sync::atomic::Ordering;

use crate::error::FarmError;
use crate::progress::Progress;
use crate::words::counted;

/// Counts what is read, and ends when the person asks to stop.
pub struct Watched<'a, R> {
    /// What is read.
    pub inner: R,
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// Bytes so far, of all that is read.
    pub done: &'a Cell<u64>,
    /// Of how many.
    pub total: u64,
}

impl<R: io::Read> io::Read for Watched<'_, R> {
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

/// What failed because the person asked to stop, as that; `after` says what is then so.
pub fn stopped_or<T, E: Into<FarmError>>(
    progress: &dyn Progress,
    done: Result<T, E>,
    after: &'static str,
) -> Result<T, FarmError> {
    let stopped = progress.cancel().load(Ordering::Relaxed);
    done.map_err(|e| if stopped { FarmError::Stopped(after) } else { e.into() })
}

/// How much there is of something, for people.
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
