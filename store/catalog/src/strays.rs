//! Strays: files that the catalog does not know. They are set aside and shown, and only a person removes them.
//!
//! Most were left by a push that was refused or killed. But a file may also be unknown because the catalog was lost, so
//! no file is deleted for being unknown. A scrub moves strays to `<data>/blobs/strays/`, where nothing serves them; a
//! rebuild of the catalog first moves them back.

use hab_blobs::{Stray, Suspect};
use hab_oci::Digest;

use crate::blocking::blocking;
use crate::{Result, Span, Store};

impl Store {
    /// All strays, sorted by digest.
    pub async fn strays(&self) -> Result<Vec<Stray>> {
        let blobs = self.blobs.clone();
        blocking(move || blobs.strays()).await
    }

    /// Removes the strays that were last written at least `older` ago, and returns them.
    pub async fn remove_strays(&self, older: Span) -> Result<Vec<Stray>> {
        let blobs = self.blobs.clone();
        blocking(move || blobs.remove_strays(older.into())).await
    }

    /// Sets a file aside if it is loose, the catalog does not name it, and no other file has replaced it since. Returns
    /// whether it did.
    pub(crate) async fn set_stray_aside(&self, digest: &Digest, suspect: &Suspect) -> Result<bool> {
        let (blobs, key) = (self.blobs.clone(), digest.clone());
        let alone = blocking(move || blobs.alone(&key)).await?;
        if self.catalog.names_blob(digest).await? || self.blobs.loose(digest)?.is_none() {
            return Ok(false);
        }
        Ok(self.blobs.set_stray_aside(digest, suspect, &alone)?)
    }
}
