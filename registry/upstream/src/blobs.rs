//! Finds a blob: held here, on its way, or to be fetched from the upstream.
//!
//! A repository holds a blob only if the upstream gave it at the repository's own path. A manifest that names a digest
//! proves nothing: its author may never have had the bytes. Nor do bytes that came here another way (a push, a build,
//! another upstream) become an upstream's because it claims to have them: it must send them. Only bytes that this very
//! upstream sent, for another of its repositories, need not come twice. But it must give their last byte at this
//! repository's path, where it checks by itself who may read what.

use std::time::Instant;

use hab_oci::shapes::LARGEST_CONFIG;
use hab_oci::{Digest, Outline, TagOrDigest};
use hab_outbound::StatusCode;
use hab_outbound::header::CONTENT_RANGE;
use hab_store::Store;

use crate::download::{BlobFetch, Download};
use crate::error::Error;
use crate::failure::Failure;
use crate::remote::Remote;
use hab_clock::now;
use hab_store::blocking;

/// The most manifests that are read to learn how large a blob is.
const DESCRIBED: u32 = 20;

/// A blob that the repository holds, or that is on its way for it.
#[derive(Debug)]
pub enum Arriving {
    /// The repository holds it.
    Here,
    /// It is being downloaded.
    Coming(Download),
}

impl Remote {
    /// Makes the repository here hold a blob, or returns its running download. `limit`: bytes of a blob.
    pub async fn blob(&self, store: &Store, digest: &Digest, limit: u64) -> Result<Arriving, Error> {
        if let Some(download) = self.upstream.downloads.of(digest, &self.local) {
            return Ok(Arriving::Coming(download));
        }
        let (since, what) = (Instant::now(), digest.to_string());
        let _turn = self.turn(&what).await;
        if store.catalog.blob(&self.local, digest).await?.is_some() {
            return Ok(Arriving::Here);
        }
        if self.is_absent(&what, since) {
            return Err(self.no_blob(digest));
        }
        if let Some(download) = self.upstream.downloads.of(digest, &self.local) {
            return Ok(Arriving::Coming(download));
        }
        let limit = self.limit_of(store, digest, limit).await?;
        if let Some(arriving) = self.shared(store, digest, limit).await? {
            return Ok(arriving);
        }
        let errand = BlobFetch {
            client: self.upstream.client.clone(),
            store: store.clone(),
            local: self.local.clone(),
            remote: self.name.clone(),
            digest: digest.clone(),
            named: self.described_sizes(store, digest).await?,
            limit,
        };
        let (upstream, key) = (self.upstream.clone(), digest.clone());
        let done = move |download: &Download| upstream.downloads.remove(&key, download);
        let download =
            Download::start(errand, done).await.map_err(|failure| self.blob_failed(digest, failure))?;
        self.upstream.downloads.add(digest, &self.local, &download);
        Ok(Arriving::Coming(download))
    }

    /// The most bytes that a blob may have. A configuration that is too large to be read is refused before it comes,
    /// even if its manifest says that it is small.
    async fn limit_of(&self, store: &Store, digest: &Digest, limit: u64) -> Result<u64, Error> {
        let configures = store.catalog.configures(&self.local, digest).await?;
        Ok(configures.map_or(limit, |_| limit.min(LARGEST_CONFIG)))
    }

    /// Uses a blob that the same upstream sent, or is sending, for another of its repositories, if it says that this
    /// one holds it too.
    async fn shared(&self, store: &Store, digest: &Digest, limit: u64) -> Result<Option<Arriving>, Error> {
        let address = self.client().config().address();
        let running = self.upstream.downloads.any(digest);
        let size = match &running {
            Some(download) => Some(download.size()),
            None if store.catalog.was_received(digest, &address).await? => {
                let (blobs, key) = (store.blobs.clone(), digest.clone());
                blocking(move || blobs.get(&key)).await?
            }
            None => None,
        };
        // A blob that is too large is refused where it is fetched.
        let Some(size) = size.filter(|size| *size <= limit) else { return Ok(None) };
        if !self.gives(digest, size).await? {
            return Ok(None);
        }
        if let Some(download) = running {
            if download.promise(&self.local) {
                self.upstream.downloads.add(digest, &self.local, &download);
                return Ok(Some(Arriving::Coming(download)));
            }
            if download.end().await.is_err() {
                return Ok(None);
            }
        }
        let shared = store.share_received(&self.local, digest, size, &address, now()).await?;
        Ok(shared.then_some(Arriving::Here))
    }

    /// Whether the upstream gives a blob of this size at this repository's path. Asks for its last byte, because a HEAD
    /// is sometimes answered by another host than a GET. [`Error::BlobUnknown`] if the upstream says that there is no
    /// such blob, or that it is not for us. An upstream that does not support ranges begins to send the whole blob,
    /// which is not read.
    async fn gives(&self, digest: &Digest, size: u64) -> Result<bool, Error> {
        let last = size.saturating_sub(1);
        let response = match self.client().blob(&self.name, digest, last).await {
            Ok((response, _)) => response,
            Err(failure @ Failure::Absent) => return Err(self.blob_failed(digest, failure)),
            // Whatever is wrong is found and reported when the whole blob is asked for.
            Err(_) => return Ok(false),
        };
        if response.status() == StatusCode::OK {
            return Ok(response.content_length() == Some(size));
        }
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        // A part without a `Content-Range` has only its length to go by: it must be one byte, because a part after the
        // end has none.
        Ok(match range.and_then(|text| text.trim().rsplit_once('/')) {
            Some((_, whole)) => whole == size.to_string(),
            None => response.content_length() == Some(1),
        })
    }

    /// The size of a blob that is not here, as the upstream states it; `None` if only its bytes would tell. Fetches
    /// nothing. A HEAD is sometimes answered by another host than a GET, so the size is only as reliable as the
    /// upstream.
    pub async fn blob_size(&self, store: &Store, digest: &Digest) -> Result<Option<u64>, Error> {
        if let Some(download) = self.upstream.downloads.of(digest, &self.local) {
            return Ok(Some(download.size()));
        }
        let (since, ttl) = (Instant::now(), self.client().config().ttl);
        // All clients that ask at the same time share one request.
        let _turn = self.turn(&format!("size of {digest}")).await;
        let key = (self.local.clone(), digest.clone());
        if let Some(size) = self.upstream.sizes.get(&key, since, ttl) {
            return Ok(Some(size));
        }
        if self.is_absent(&digest.to_string(), since) {
            return Err(self.no_blob(digest));
        }
        let size = match self.client().blob_size(&self.name, digest).await {
            Ok(Some(size)) => size,
            Ok(None) => return Ok(self.described_sizes(store, digest).await?.first().copied()),
            Err(failure @ Failure::Absent) => return Err(self.blob_failed(digest, failure)),
            Err(failure) if self.client().is_resting() => return Err(self.failed(failure)),
            // Some upstreams do not support HEAD for a blob, or redirect it to a host that answers only a GET.
            Err(_) => return Ok(None),
        };
        self.upstream.sizes.put(key, size, ttl);
        Ok(Some(size))
    }

    /// The sizes that manifests here state for a blob: one size, unless a manifest is wrong.
    async fn described_sizes(&self, store: &Store, digest: &Digest) -> Result<Vec<u64>, Error> {
        let mut sizes = Vec::new();
        for manifest in store.catalog.named_by(&self.local, digest, DESCRIBED).await? {
            let reference = TagOrDigest::Digest(manifest);
            let Some(found) = store.catalog.manifest(&self.local, &reference).await? else { continue };
            let (blobs, key, size) = (store.blobs.clone(), found.digest, found.size);
            let Ok(Some(bytes)) = blocking(move || blobs.read(&key, size)).await else {
                continue;
            };
            let Ok(outline) = Outline::read(&found.media_type, &bytes) else { continue };
            let said = outline.edges.iter().filter(|edge| edge.digest == *digest);
            sizes.extend(said.map(|edge| edge.size));
        }
        sizes.dedup();
        Ok(sizes)
    }

    fn no_blob(&self, digest: &Digest) -> Error {
        Error::BlobUnknown { repository: self.local.clone(), digest: digest.clone() }
    }

    fn blob_failed(&self, digest: &Digest, failure: Failure) -> Error {
        match failure {
            Failure::Absent => {
                self.was_absent(&digest.to_string());
                self.no_blob(digest)
            }
            other => self.failed(other),
        }
    }
}
