//! Implements the mirror's [`Keep`] with the store.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hab_mirror::{Keep, KeepError, NamedBlob};
use hab_oci::Digest;
use hab_store::{Mirrored, Store};

use crate::bridge::Bridge;
use crate::carry::aside::Aside;
use hab_clock::now;

/// Keeps mirrored bytes in the blob store and facts in the catalog.
#[derive(Clone)]
pub struct StoreKeep {
    store: Store,
    bridge: Bridge,
    partial: PathBuf,
    aside: Option<Arc<Aside>>,
}

impl StoreKeep {
    /// Makes a keep over `store`. Partly fetched files go to `partial`.
    pub fn new(store: Store, bridge: Bridge, partial: PathBuf) -> Self {
        Self { store, bridge, partial, aside: None }
    }

    /// The same keep, which also finds the blobs in `aside`. A blob from there moves to the store before it gets a
    /// name.
    pub fn beside(&self, aside: Arc<Aside>) -> Self {
        Self { aside: Some(aside), ..self.clone() }
    }

    /// Moves an imported blob to the store, because something names it now.
    pub fn adopt(&self, digest: &Digest) -> Result<(), KeepError> {
        let Some(aside) = &self.aside else { return Ok(()) };
        aside.name(digest, |path| {
            let found = match path {
                Some(path) => Some(File::open(path).map_err(|e| KeepError::Store(Box::new(e)))?),
                None => self.store.blobs.open_blob(digest).map_err(failed)?.map(|blob| blob.file),
            };
            // A collection may have removed the blob meanwhile. Then nothing here finds it, as if it had not been
            // imported.
            found.map_or(Ok(()), |mut file| self.take(Some(digest), &mut file).map(drop))
        })
    }
}

impl StoreKeep {
    /// Like [`Keep::remember`], and returns whether the value is new.
    pub fn say(&self, kind: &str, name: &str, digest: &Digest, size: u64) -> Result<bool, KeepError> {
        self.adopt(digest)?;
        self.bridge.wait(self.store.catalog.remember(kind, name, digest, size, now())).map_err(failed)
    }

    /// Withdraws the newest value of a name.
    pub fn withdraw(&self, kind: &str, name: &str) -> Result<(), KeepError> {
        self.bridge.wait(self.store.catalog.withdraw(kind, name, now())).map_err(failed)
    }

    /// All values that a name ever had, oldest first.
    pub fn history(&self, kind: &str, name: &str) -> Result<Vec<Mirrored>, KeepError> {
        self.bridge.wait(self.store.catalog.history(kind, name)).map_err(failed)
    }

    /// The text at a position.
    pub fn position(&self, name: &str) -> Result<Option<String>, KeepError> {
        self.bridge.wait(self.store.catalog.position(name)).map_err(failed)
    }

    /// Replaces the text at a position.
    pub fn set_position(&self, name: &str, text: &str) -> Result<(), KeepError> {
        self.bridge.wait(self.store.catalog.set_position(name, text)).map_err(failed)
    }
}

fn failed(error: impl Into<hab_store::Error>) -> KeepError {
    match error.into() {
        hab_store::Error::WrongDigest { expected, found } => {
            KeepError::WrongDigest { expected, actual: found }
        }
        other => KeepError::Store(Box::new(other)),
    }
}

impl Keep for StoreKeep {
    fn open(&self, digest: &Digest) -> Result<Option<File>, KeepError> {
        if let Some(blob) = self.store.blobs.open_blob(digest).map_err(failed)? {
            return Ok(Some(blob.file));
        }
        let aside = self.aside.as_ref().and_then(|aside| aside.find(digest));
        aside.map(File::open).transpose().map_err(|e| KeepError::Store(Box::new(e)))
    }

    fn take(&self, expected: Option<&Digest>, reader: &mut dyn Read) -> Result<(Digest, u64), KeepError> {
        let mut writer = self.store.blobs.writer().map_err(failed)?;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return writer.commit(expected).map_err(failed),
                Ok(n) => writer.add(&buffer[..n]).map_err(failed)?,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(KeepError::Store(Box::new(e))),
            }
        }
    }

    fn remember(&self, kind: &str, name: &str, digest: &Digest, size: u64) -> Result<(), KeepError> {
        self.say(kind, name, digest, size).map(drop)
    }

    fn latest(&self, kind: &str, name: &str) -> Result<Option<Digest>, KeepError> {
        self.bridge.wait(self.store.catalog.latest(kind, name)).map_err(failed)
    }

    fn names(&self, kind: &str) -> Result<Vec<NamedBlob>, KeepError> {
        self.names_below(kind, "")
    }

    fn names_below(&self, kind: &str, prefix: &str) -> Result<Vec<NamedBlob>, KeepError> {
        let facts = self.bridge.wait(self.store.catalog.names_below(kind, prefix)).map_err(failed)?;
        let kept = |(name, fact): (String, Mirrored)| NamedBlob {
            name,
            digest: fact.digest,
            size: fact.size,
            first_seen: fact.first_seen,
        };
        Ok(facts.into_iter().map(kept).collect())
    }

    fn path(&self, digest: &Digest) -> Result<Option<PathBuf>, KeepError> {
        let kept = self.store.blobs.get(digest).map_err(failed)?;
        let here = kept.map(|_| self.store.blobs.path(digest));
        Ok(here.or_else(|| self.aside.as_ref()?.find(digest)))
    }

    fn partial(&self) -> &Path {
        &self.partial
    }
}
