//! A place to keep files in, for tests.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hab_mirror::{Keep, KeepError, NamedBlob};
use hab_oci::Digest;

/// A keep in memory.
pub struct Memory {
    pub kept: Mutex<BTreeMap<Digest, Vec<u8>>>,
    folder: tempfile::TempDir,
}

impl Memory {
    pub fn new() -> Self {
        Self { kept: Mutex::default(), folder: tempfile::tempdir().unwrap() }
    }
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

    fn names(&self, _: &str) -> Result<Vec<NamedBlob>, KeepError> {
        Ok(Vec::new())
    }

    fn path(&self, _: &Digest) -> Result<Option<PathBuf>, KeepError> {
        Ok(None)
    }

    fn partial(&self) -> &Path {
        self.folder.path()
    }
}
