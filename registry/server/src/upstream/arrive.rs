//! A blob that is asked for: here, on its way for somebody else already, or asked for upstream.

use hab_oci::Digest;
use hab_store::Store;

use super::download::{Download, Errand};
use super::failure::Failure;
use super::{Remote, locked};
use crate::error::Error;
use crate::registry::now;

/// A blob that is here, or on its way.
pub(crate) enum Arriving {
    Here,
    Coming(Download),
}

impl Remote {
    /// A blob: makes it a member of the repository here, or says where it is on its way. `named`: the caller has a
    /// manifest of this repository that names it, which need not be here yet.
    pub(crate) async fn blob(
        &self,
        store: &Store,
        digest: &Digest,
        limit: u64,
        named: bool,
    ) -> Result<Arriving, Error> {
        let unknown = || Error::BlobUnknown { repository: self.local.clone(), digest: digest.clone() };
        let failed = |failure| match failure {
            Failure::Absent => unknown(),
            other => self.failed(other),
        };
        if let Some(download) = locked(&self.upstream.downloads).get(digest) {
            return Ok(Arriving::Coming(download.clone()));
        }
        let _turn = self.turn(&digest.to_string()).await;
        if store.catalog.blob(&self.local, digest).await?.is_some() {
            return Ok(Arriving::Here);
        }
        if let Some(download) = locked(&self.upstream.downloads).get(digest) {
            return Ok(Arriving::Coming(download.clone()));
        }
        let (blobs, key) = (store.blobs.clone(), digest.clone());
        let kept = crate::body::blocking(move || blobs.get(&key)).await?;
        // The same bytes came here by another way, and a manifest of this repository names them.
        if let Some(size) = kept
            && (named || store.catalog.points_at(&self.local, digest).await?)
        {
            store.catalog.link_blob(&self.local, digest, size, now()).await?;
            return Ok(Arriving::Here);
        }
        let errand = Errand {
            client: self.upstream.client.clone(),
            store: store.clone(),
            local: self.local.clone(),
            remote: self.name.clone(),
            digest: digest.clone(),
            limit,
        };
        let (upstream, key) = (self.upstream.clone(), digest.clone());
        let done = move || drop(locked(&upstream.downloads).remove(&key));
        let download = Download::start(errand, done).await.map_err(failed)?;
        locked(&self.upstream.downloads).insert(digest.clone(), download.clone());
        // It may have ended before it was in the map.
        if download.is_over() {
            locked(&self.upstream.downloads).remove(digest);
        }
        Ok(Arriving::Coming(download))
    }
}
