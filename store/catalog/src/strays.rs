//! Files that the catalog does not know: set aside, shown, and removed by a person's word alone.
//!
//! Most are what a push left that was refused or killed. But a file may also be unknown because the catalog lost it, so
//! nothing goes for being unknown. A scrub moves such files to `<data>/blobs/strays/`, where nothing serves them; a
//! rebuild of the catalog first moves them back.

use hab_blobs::{Stray, Suspect};
use hab_oci::Digest;

use crate::store::blocking;
use crate::{Result, Span, Store};

impl Store {
    /// The files that were set aside, by digest.
    pub async fn strays(&self) -> Result<Vec<Stray>> {
        let blobs = self.blobs.clone();
        blocking(move || blobs.strays()).await
    }

    /// Removes the files that were set aside and last written before `older` ago, and returns them.
    pub async fn remove_strays(&self, older: Span) -> Result<Vec<Stray>> {
        let blobs = self.blobs.clone();
        blocking(move || blobs.remove_strays(older.into())).await
    }

    /// Sets a file aside that the catalog does not name, if it is a loose one that nobody else took the place of.
    pub(crate) async fn set_stray_aside(&self, digest: &Digest, suspect: &Suspect) -> Result<bool> {
        let (blobs, key) = (self.blobs.clone(), digest.clone());
        let alone = blocking(move || blobs.alone(&key)).await?;
        if self.catalog.names_blob(digest).await? || self.blobs.loose(digest)?.is_none() {
            return Ok(false);
        }
        Ok(self.blobs.set_stray_aside(digest, suspect, &alone)?)
    }
}
