//! Sends a file's bytes from the page cache to a socket without a copy in between: sendfile(2). Only for plain
//! HTTP/1.1, where no layer looks at the bytes.
//!
//! An answer's body gives bytes, and the layers above the socket pass them on unread. So the body can give a
//! placeholder of the same length instead, a "place" ([`FileQueue::place`]). The socket's side
//! ([`Wire`](crate::wire::Wire)) knows it by its address in memory, and sends the part of the file that it stands for.
//! Both keep one order, that of the connection. If a place were ever sent itself, the client would get zeros, which its
//! digest check refuses.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use rustix::io::{ReadWriteFlags, preadv2};

/// Below this many bytes, a copy is cheaper than a second system call.
const LEAST: u64 = 64 << 10;
/// The most bytes that one place stands for.
const MOST: usize = 1 << 20;

/// The memory that places are slices of. Nobody reads it, so it takes no pages.
static PLACES: LazyLock<Box<[u8]>> = LazyLock::new(|| vec![0; MOST].into());

thread_local! {
    /// The connection whose answer is asked for its next bytes right now.
    static ASKING: RefCell<Option<Arc<FileQueue>>> = const { RefCell::new(None) };
}

/// Parts of files that are to be sent over one connection, in order.
#[derive(Debug, Default)]
pub(crate) struct FileQueue(
    /// Held to add or take a part, and for a system call that does not wait.
    Mutex<VecDeque<Part>>,
);

#[derive(Debug)]
struct Part {
    file: Arc<File>,
    at: u64,
    left: usize,
}

impl FileQueue {
    /// Calls `ask` and lets it use places, because its result goes to this connection next, and to no other.
    pub(crate) fn asked_by<T>(this: Option<&Arc<Self>>, ask: impl FnOnce() -> T) -> T {
        // Resets this also when `ask` panics: the next connection on this thread must not be taken for this one.
        struct Asked;
        impl Drop for Asked {
            fn drop(&mut self) {
                ASKING.set(None);
            }
        }
        let _asked = Asked;
        ASKING.set(this.cloned());
        ask()
    }

    /// A place for the next of `left` bytes of a file from `at` on. `None` if they must be read: the connection cannot
    /// send files, or they are too few or not in memory.
    pub(crate) fn place(file: &Arc<File>, at: u64, left: u64) -> Option<Bytes> {
        Self::place_where(is_cached, file, at, left)
    }

    fn place_where(
        is_cached: impl Fn(&File, u64) -> bool,
        file: &Arc<File>,
        at: u64,
        left: u64,
    ) -> Option<Bytes> {
        if left < LEAST {
            return None;
        }
        let parts = ASKING.with_borrow(Option::clone)?;
        let length = usize::try_from(left).map_or(MOST, |left| left.min(MOST));
        // The bytes between are usually cached by read-ahead, too. If not, the socket's thread waits for the disk once.
        if !is_cached(file, at) || !is_cached(file, at + length as u64 - 1) {
            return None;
        }
        parts.with(|parts| parts.push_back(Part { file: file.clone(), at, left: length }));
        Some(Bytes::from_static(&PLACES[..length]))
    }

    /// Whether these bytes are a place.
    pub(crate) fn is_place(bytes: &[u8]) -> bool {
        PLACES.as_ptr_range().contains(&bytes.as_ptr())
    }

    /// Sends as much of the next part as the socket takes, like a write of its place.
    pub(crate) fn send(&self, socket: impl AsFd) -> io::Result<usize> {
        self.with(|parts| {
            let part = parts.front_mut().ok_or_else(|| io::Error::other("this place has no file part"))?;
            let sent = rustix::fs::sendfile(socket, &part.file, Some(&mut part.at), part.left)?;
            if sent == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was truncated"));
            }
            part.left -= sent;
            if part.left == 0 {
                parts.pop_front();
            }
            Ok(sent)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut VecDeque<Part>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether a byte can be read without waiting for a disk; `false` if the file system cannot tell, such as overlayfs.
fn is_cached(file: &File, at: u64) -> bool {
    preadv2(file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT) == Ok(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_place_is_given_to_the_connection_that_is_asking_and_to_no_other() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; MOST + 100_000]).unwrap();
        let (file, size) = (Arc::new(file), MOST as u64 + 100_000);
        let parts = Arc::new(FileQueue::default());
        // Only some file systems tell whether bytes are in memory.
        let place_of = |at, left| FileQueue::place_where(|_, at| at < size, &file, at, left);
        let place = || place_of(0, size);
        assert!(place().is_none());
        let given = FileQueue::asked_by(Some(&parts), place).unwrap();
        assert!(given.len() == MOST && FileQueue::is_place(&given) && FileQueue::is_place(&given[5..]));
        assert!(!FileQueue::is_place(b"other bytes"));
        // Too few bytes, and bytes that are not in memory, must be read.
        let little = || place_of(0, LEAST - 1).is_none() && place_of(size, size).is_none();
        assert!(FileQueue::asked_by(Some(&parts), little));
        let panicked =
            std::panic::catch_unwind(|| FileQueue::asked_by(Some(&parts), || std::panic::panic_any(0)));
        assert!(panicked.is_err() && place().is_none() && FileQueue::asked_by(None, place).is_none());
        assert_eq!(parts.with(|parts| parts.len()), 1);
    }
}
