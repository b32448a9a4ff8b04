//! Two processes that want the same file: one fetches, the other waits for it.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use hab_mirror::{FetchLimits, Fetcher, FileToFetch, Keep as _, Observer, Size};
use hab_oci::Digest;
use support::Memory;

struct Notes(Mutex<Sender<String>>);

impl Observer for Notes {
    fn fetching(&self, _: &str, _: u64, _: Option<u64>) {}
    fn note(&self, text: &str) {
        self.0.lock().unwrap().send(text.to_owned()).unwrap();
    }
    fn cancelled(&self) -> bool {
        false
    }
}

const BYTES: &[u8] = b"a package";

/// A process that fetches `BYTES` from `upstream` while another one holds its half, and then does `then`.
fn meet(upstream: &str, then: impl FnOnce(&Memory, &Path)) -> Memory {
    let keep = Memory::new();
    let digest = Digest::of(BYTES);
    let path = keep.partial().join(digest.hex());
    let theirs = File::create(&path).unwrap();
    theirs.lock().unwrap();
    let (sender, notes) = channel();
    let observer = Notes(Mutex::new(sender));
    let urls = vec![upstream.to_owned().into()];
    let wanted =
        FileToFetch { what: "tools.deb".to_owned(), urls, digest, size: Size::Exact(BYTES.len() as u64) };
    std::thread::scope(|scope| {
        let fetched =
            scope.spawn(|| Fetcher::new(&keep, &observer, FetchLimits::default(), false).fetch(&wanted));
        let note = notes.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(note, "tools.deb is being fetched by another process");
        then(&keep, &path);
        drop(theirs);
        fetched.join().unwrap().unwrap();
    });
    keep
}

#[test]
fn what_another_process_has_finished_is_not_fetched_again() {
    meet("http://127.0.0.1:1/nobody-is-here", |keep, path| {
        keep.take(None, &mut &BYTES[..]).unwrap();
        std::fs::remove_file(path).unwrap();
    });
}

#[test]
fn what_another_process_left_half_done_is_finished() {
    let upstream = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(upstream.path(), BYTES).unwrap();
    let keep = meet(&format!("file://{}", upstream.path().display()), |_, path| {
        std::fs::write(path, &BYTES[..4]).unwrap();
    });
    assert_eq!(keep.kept.lock().unwrap().len(), 1);
    assert!(!keep.partial().join(Digest::of(BYTES).hex()).exists(), "the half is gone");
}
