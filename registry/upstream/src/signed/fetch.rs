//! Fetches signatures from the upstream.

use hab_oci::{Digest, TagOrDigest};
use hab_store::{Gaps, Store};

use super::carrier::{Carrier, carrier};
use super::places::{likeliest, signature_tag};
use crate::error::Error;
use crate::failure::Failure;
use crate::memory::locked;
use crate::remote::Remote;
use hab_clock::now;
use hab_store::blocking;

impl Remote {
    /// Fetches the upstream's signatures of a manifest, at most once in its time to live.
    pub(super) async fn fetch_signatures(
        &self,
        store: &Store,
        digest: &Digest,
        limit: usize,
    ) -> Result<Result<(), Failure>, Error> {
        let _turn = self.turn(&format!("signatures of {digest}")).await;
        let key = (self.local.clone(), digest.clone());
        let ttl = self.client().config().ttl;
        if self.client().config().offline || locked(&self.upstream.verdicts).was_asked(&key, ttl) {
            return Ok(Ok(()));
        }
        // The manifest may itself carry signatures whose payloads nobody has asked for yet.
        let (blobs, of) = (store.blobs.clone(), digest.clone());
        if let Some(bytes) = blocking(move || carrier(&blobs, &of)).await? {
            match self.fetch_payloads(store, &bytes).await {
                Ok(()) | Err(Error::BlobUnknown { .. }) => {}
                Err(Error::Failed { failure, .. }) => return Ok(Err(failure)),
                Err(other) => return Err(other),
            }
        }
        let mut wanted = Vec::new();
        if let Some(tag) = signature_tag(digest) {
            wanted.push(TagOrDigest::Tag(tag));
        }
        match self.ask_referrers(digest, limit).await {
            Ok(referrers) => wanted.extend(likeliest(referrers).map(TagOrDigest::Digest)),
            Err(Failure::Absent) => {}
            Err(failure) => return Ok(Err(failure)),
        }
        for reference in wanted {
            match self.fetch_carrier(store, &reference, limit).await {
                // If these cannot be had, the signatures that are here must suffice.
                Ok(())
                | Err(
                    Error::ManifestUnknown { .. }
                    | Error::BlobUnknown { .. }
                    | Error::Store(hab_store::Error::Immutable { .. }),
                ) => {}
                Err(Error::Failed { failure, .. }) => return Ok(Err(failure)),
                Err(other) => return Err(other),
            }
        }
        locked(&self.upstream.verdicts).asked(key, ttl);
        Ok(Ok(()))
    }

    /// Fetches a manifest of signatures, its payloads first: once the manifest is here, everything that a decision
    /// needs is here.
    async fn fetch_carrier(&self, store: &Store, reference: &TagOrDigest, limit: usize) -> Result<(), Error> {
        let manifest = self.receive_manifest(reference, limit).await?;
        if Carrier::read(&manifest.bytes).signatures().next().is_none() {
            return Ok(());
        }
        self.fetch_payloads(store, &manifest.bytes).await?;
        let tags = match reference {
            TagOrDigest::Tag(tag) => vec![tag.clone()],
            TagOrDigest::Digest(_) => Vec::new(),
        };
        self.keep_manifests(store, vec![manifest], tags, Gaps::All).await
    }

    /// Fetches the signed payloads of a manifest of signatures; of any other manifest, nothing.
    async fn fetch_payloads(&self, store: &Store, manifest: &[u8]) -> Result<(), Error> {
        for (layer, optional) in Carrier::read(manifest).payloads() {
            if store.catalog.blob(&self.local, &layer.digest).await?.is_some() {
                continue;
            }
            let limit = usize::try_from(layer.size).unwrap_or(usize::MAX);
            let bytes = self.client().small_blob(&self.name, &layer.digest, limit).await;
            if optional && matches!(bytes, Err(Failure::Absent | Failure::Wrong(_))) {
                continue;
            }
            let bytes = bytes.map_err(|failure| match failure {
                Failure::Absent => {
                    Error::BlobUnknown { repository: self.local.clone(), digest: layer.digest.clone() }
                }
                other => self.failed(other),
            })?;
            let (blobs, algorithm) = (store.blobs.clone(), layer.digest.algorithm());
            let writer = blocking(move || {
                let mut writer = blobs.writer_with(algorithm)?;
                writer.add(&bytes)?;
                Ok::<_, hab_blobs::Error>(writer)
            });
            let (local, address) = (std::slice::from_ref(&self.local), self.client().config().address());
            store.keep_received(local, writer.await?, &layer.digest, &address, now()).await?;
        }
        Ok(())
    }
}
