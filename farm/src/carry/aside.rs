//! Blobs from an imported file that nothing here names yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hab_mirror::KeepError;
use hab_oci::{Algorithm, Digest, Hasher};

/// A folder of imported blobs, each with the digest that was announced for it. Dropping this value deletes the folder.
/// Only blobs that something names before that move to the store.
#[derive(Debug)]
pub struct Aside {
    folder: tempfile::TempDir,
    /// The imported blobs with their sizes; `None` for a blob that the store already has.
    blobs: Mutex<BTreeMap<Digest, Option<u64>>>,
    /// Guards the set of digests that were named. The lock is held while a blob moves, so that nobody names a blob that
    /// is only half in the store.
    named: Mutex<BTreeSet<Digest>>,
}

impl Aside {
    /// Makes an empty folder below `place`.
    pub fn new(place: &Path) -> io::Result<Self> {
        let folder = tempfile::tempdir_in(place)?;
        Ok(Self { folder, blobs: Mutex::default(), named: Mutex::default() })
    }

    /// Writes bytes to the folder and checks that they have this digest. With `known` the store has them, so they are
    /// only hashed.
    pub fn put(&self, digest: &Digest, bytes: &mut dyn Read, known: bool) -> Result<(), KeepError> {
        let store = |e: io::Error| KeepError::Store(Box::new(e));
        let path = self.path(digest);
        let mut file = if known { None } else { Some(File::create_new(&path).map_err(store)?) };
        let (mut hasher, mut size) = (Hasher::new(digest.algorithm()), 0);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match bytes.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    size += n as u64;
                    file.as_mut().map_or(Ok(()), |file| file.write_all(&buffer[..n])).map_err(store)?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(store(e)),
            }
        }
        let actual = hasher.finish();
        if actual != *digest {
            return Err(KeepError::WrongDigest { expected: digest.clone(), actual });
        }
        self.blobs().insert(digest.clone(), (!known).then_some(size));
        Ok(())
    }

    /// The path of a blob in the folder, if it is there.
    pub fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let lies_here = self.blobs().get(digest).copied()?.is_some();
        lies_here.then(|| self.path(digest))
    }

    /// Calls `adopt` when an imported digest is named for the first time. `adopt` moves the blob from its path to the
    /// store, or gets `None` where the store has the blob and must only keep it for good.
    pub fn name(
        &self,
        digest: &Digest,
        adopt: impl FnOnce(Option<PathBuf>) -> Result<(), KeepError>,
    ) -> Result<(), KeepError> {
        if !self.blobs().contains_key(digest) {
            return Ok(());
        }
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if !named.contains(digest) {
            adopt(self.find(digest))?;
            named.insert(digest.clone());
        }
        Ok(())
    }

    /// The number of blobs that nothing named, and their size in bytes.
    pub fn nameless(&self) -> (usize, u64) {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let blobs = self.blobs();
        let left = blobs.iter().filter(|(digest, _)| !named.contains(digest));
        left.filter_map(|(_, size)| *size).fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
    }

    fn blobs(&self) -> MutexGuard<'_, BTreeMap<Digest, Option<u64>>> {
        // A panic while the lock is held cannot leave a map operation half done.
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let algorithm = match digest.algorithm() {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        self.folder.path().join(format!("{algorithm}-{}", digest.hex()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_is_named_is_handed_on_and_once() {
        let place = tempfile::tempdir().unwrap();
        let aside = Aside::new(place.path()).unwrap();
        let [one, two] = [b"one".as_slice(), b"two"].map(|bytes| (Digest::of(bytes), bytes));
        aside.put(&one.0, &mut &*one.1, false).unwrap();
        aside.put(&two.0, &mut &*two.1, false).unwrap();
        let wrong = aside.put(&Digest::of(b"three"), &mut b"four".as_slice(), false);
        assert!(matches!(wrong, Err(KeepError::WrongDigest { .. })));
        assert_eq!(aside.nameless(), (2, 6));
        let mut moved = Vec::new();
        for digest in [&one.0, &one.0, &Digest::of(b"three")] {
            let adopt = |path: Option<PathBuf>| {
                moved.push(std::fs::read(path.unwrap()).unwrap());
                Ok(())
            };
            aside.name(digest, adopt).unwrap();
        }
        assert_eq!(moved, [b"one"]);
        assert!(aside.find(&Digest::of(b"three")).is_none());
        assert_eq!(aside.nameless(), (1, 3));
        drop(aside);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_here_already_is_hashed_and_not_written() {
        let place = tempfile::tempdir().unwrap();
        let aside = Aside::new(place.path()).unwrap();
        aside.put(&Digest::of(b"one"), &mut b"one".as_slice(), true).unwrap();
        assert_eq!((aside.nameless(), aside.find(&Digest::of(b"one"))), ((0, 0), None));
        assert!(aside.put(&Digest::of(b"one"), &mut b"two".as_slice(), true).is_err());
    }
}
