//! The mirror's [`Keep`] over the store: the one place where its synchronous calls meet the catalog's async ones.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hab_mirror::{Keep, KeepError, Kept};
use hab_oci::Digest;
use hab_store::Store;
use tokio::runtime::Handle;

use super::aside::Aside;
use super::open::now;

/// Keeps mirrored bytes in the blob store and facts in the catalog.
#[derive(Clone)]
pub struct StoreKeep {
    store: Store,
    runtime: Handle,
    partial: PathBuf,
    aside: Option<Arc<Aside>>,
}

impl StoreKeep {
    /// A keep in `store`; half-fetched files go to `partial`.
    pub fn new(store: Store, runtime: Handle, partial: PathBuf) -> Self {
        Self { store, runtime, partial, aside: None }
    }

    /// The same, that also finds what lies aside; what of that gets a name is in the store before the name is.
    pub fn beside(&self, aside: Arc<Aside>) -> Self {
        Self { aside: Some(aside), ..self.clone() }
    }

    /// Moves to the store what lies aside, because something names it now.
    pub fn adopt(&self, digest: &Digest) -> Result<(), KeepError> {
        let Some(aside) = &self.aside else { return Ok(()) };
        aside.name(digest, |path| {
            let found = match path {
                Some(path) => Some(File::open(path).map_err(|e| KeepError::Store(Box::new(e)))?),
                None => self.store.blobs.open_blob(digest).map_err(failed)?.map(|blob| blob.file),
            };
            // It may have gone with a collection meanwhile; then nothing here finds it, as if it had not come.
            found.map_or(Ok(()), |mut file| self.take(Some(digest), &mut file).map(drop))
        })
    }
}

fn failed(error: hab_store::Error) -> KeepError {
    match error {
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
        self.adopt(digest)?;
        let remembered = self.store.catalog.remember(kind, name, digest, size, now());
        self.runtime.block_on(remembered).map(drop).map_err(failed)
    }

    fn latest(&self, kind: &str, name: &str) -> Result<Option<Digest>, KeepError> {
        self.runtime.block_on(self.store.catalog.latest(kind, name)).map_err(failed)
    }

    fn names(&self, kind: &str) -> Result<Vec<Kept>, KeepError> {
        self.names_below(kind, "")
    }

    fn names_below(&self, kind: &str, prefix: &str) -> Result<Vec<Kept>, KeepError> {
        let facts = self.runtime.block_on(self.store.catalog.names_below(kind, prefix)).map_err(failed)?;
        let kept = |(name, fact): (String, hab_store::Mirrored)| Kept {
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
