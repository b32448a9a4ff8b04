//! Two processes that want the same file: one fetches, the other waits for it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use hab_mirror::{Fetcher, Keep, KeepError, Kept, Limits, Observer, Wanted};
use hab_oci::Digest;

/// A keep in memory.
struct Memory {
    kept: Mutex<BTreeMap<Digest, Vec<u8>>>,
    folder: tempfile::TempDir,
}

impl Keep for Memory {
    fn open(&self, digest: &Digest) -> Result<Option<File>, KeepError> {
        Ok(self.kept.lock().unwrap().get(digest).map(|bytes| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            file
        }))
    }

    fn take(&self, expected: Option<&Digest>, reader: &mut dyn Read) -> Result<(Digest, u64), KeepError> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        let actual = Digest::of(&bytes);
        if let Some(expected) = expected.filter(|expected| **expected != actual) {
            return Err(KeepError::WrongDigest { expected: expected.clone(), actual });
        }
        let size = bytes.len() as u64;
        self.kept.lock().unwrap().insert(actual.clone(), bytes);
        Ok((actual, size))
    }

    fn remember(&self, _: &str, _: &str, _: &Digest, _: u64) -> Result<(), KeepError> {
        Ok(())
    }

    fn latest(&self, _: &str, _: &str) -> Result<Option<Digest>, KeepError> {
        Ok(None)
    }

    fn names(&self, _: &str) -> Result<Vec<Kept>, KeepError> {
        Ok(Vec::new())
    }

    fn path(&self, _: &Digest) -> Result<Option<PathBuf>, KeepError> {
        Ok(None)
    }

    fn partial(&self) -> &Path {
        self.folder.path()
    }
}

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
    let keep = Memory { kept: Mutex::default(), folder: tempfile::tempdir().unwrap() };
    let digest = Digest::of(BYTES);
    let path = keep.folder.path().join(digest.hex());
    let theirs = File::create(&path).unwrap();
    theirs.lock().unwrap();
    let (sender, notes) = channel();
    let observer = Notes(Mutex::new(sender));
    let urls = vec![upstream.to_owned()];
    let wanted = Wanted { what: "tools.deb".to_owned(), urls, digest, size: BYTES.len() as u64 };
    std::thread::scope(|scope| {
        let fetched = scope.spawn(|| Fetcher::new(&keep, &observer, Limits::default(), false).fetch(&wanted));
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
    assert!(!keep.folder.path().join(Digest::of(BYTES).hex()).exists(), "the half is gone");
}
