//! Finds a manifest: the one that is stored here if it may be served, else the upstream's.

use std::time::{Duration, Instant};

use hab_oci::{Digest, Outline, Tag, TagOrDigest};
use hab_store::{Gaps, ManifestRecord, NewManifest, Publication, Store};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::Revalidate;
use crate::error::Error;
use crate::failure::Failure;
use crate::freshness::Freshness;
use crate::memory::{Looking, locked};
use crate::remote::Remote;
use hab_clock::now;

impl Remote {
    /// Finds a manifest that may be served, and stores it if it is new. `limit`: bytes of a manifest.
    pub async fn manifest(
        &self,
        store: &Store,
        reference: &TagOrDigest,
        limit: usize,
    ) -> Result<(ManifestRecord, Freshness), Error> {
        let (found, freshness) = self.find_manifest(store, reference, limit).await?;
        self.approve(store, reference, &found.digest, limit).await?;
        Ok((found, freshness))
    }

    async fn find_manifest(
        &self,
        store: &Store,
        reference: &TagOrDigest,
        limit: usize,
    ) -> Result<(ManifestRecord, Freshness), Error> {
        let here = store.catalog.manifest(&self.local, reference).await?;
        match (reference, here) {
            (TagOrDigest::Digest(_), Some(found)) => {
                self.can_be_had(store, &found).await?;
                Ok((found, Freshness::Hit))
            }
            (TagOrDigest::Digest(_), None) => self.first_manifest(store, reference, limit).await,
            (TagOrDigest::Tag(_), _) if self.client().config().digest_only => {
                Err(Error::DigestOnly(self.local.clone()))
            }
            (TagOrDigest::Tag(tag), Some(found)) => {
                self.can_be_had(store, &found).await?;
                if self.is_fresh(tag) {
                    return Ok((found, Freshness::Hit));
                }
                let looking = self.look_up_behind(store, tag, &found.digest, limit);
                if let Revalidate::Before(time) = self.client().config().revalidate
                    && let Some(looking) = looking
                {
                    return self.looked_up(store, (tag, found), looking, time).await;
                }
                Ok((found, Freshness::Stale))
            }
            (TagOrDigest::Tag(tag), None) => {
                let first = self.first_manifest(store, reference, limit).await?;
                if first.1 == Freshness::Miss {
                    self.was_checked(tag);
                }
                Ok(first)
            }
        }
    }

    /// Fetches a manifest that is not here. All clients that want it at the same time share one request and its answer.
    async fn first_manifest(
        &self,
        store: &Store,
        reference: &TagOrDigest,
        limit: usize,
    ) -> Result<(ManifestRecord, Freshness), Error> {
        let (since, asked) = (Instant::now(), text(reference));
        let _turn = self.turn(&asked).await;
        if let Some(found) = store.catalog.manifest(&self.local, reference).await? {
            return Ok((found, Freshness::Hit));
        }
        if self.is_absent(&asked, since) {
            return Err(Error::ManifestUnknown { repository: self.local.clone(), reference: asked });
        }
        match self.fetch_manifest(store, reference, limit).await {
            Ok(found) => Ok((found, Freshness::Miss)),
            Err(error) => {
                if let Error::ManifestUnknown { .. } = error {
                    self.was_absent(&asked);
                }
                Err(error)
            }
        }
    }

    /// Fetches a manifest, checks and stores it. If it was asked for by a tag, the tag moves to it if it may be served.
    pub(crate) async fn fetch_manifest(
        &self,
        store: &Store,
        reference: &TagOrDigest,
        limit: usize,
    ) -> Result<ManifestRecord, Error> {
        let manifest = self.receive_manifest(reference, limit).await?;
        let size = manifest.bytes.len() as u64;
        let (digest, media_type) = (manifest.digest.clone(), manifest.media_type.clone());
        let tags: Vec<Tag> = match reference {
            TagOrDigest::Tag(tag) => vec![tag.clone()],
            TagOrDigest::Digest(_) => Vec::new(),
        };
        // A tag stays at its signed manifest until the new one is signed, too.
        if !tags.is_empty() && self.wants_signatures() {
            self.keep_manifests(store, vec![manifest.clone()], Vec::new(), Gaps::All).await?;
            self.approve(store, reference, &digest, limit).await?;
        }
        // Its layers are fetched when a client asks for them.
        self.keep_manifests(store, vec![manifest], tags, Gaps::All).await?;
        Ok(ManifestRecord { digest, media_type, size })
    }

    /// Stores manifests, with tags at the last one.
    pub(crate) async fn keep_manifests(
        &self,
        store: &Store,
        manifests: Vec<NewManifest>,
        tags: Vec<Tag>,
        gaps: Gaps,
    ) -> Result<(), Error> {
        let Some(root) = manifests.last().map(|manifest| manifest.digest.clone()) else { return Ok(()) };
        let (repository, blobs) = (self.local.clone(), Vec::new());
        store.publish(Publication { repository, blobs, manifests, tags, root, gaps, at: now() }).await?;
        Ok(())
    }

    /// Fetches a manifest and checks it; stores nothing.
    pub(crate) async fn receive_manifest(
        &self,
        reference: &TagOrDigest,
        limit: usize,
    ) -> Result<NewManifest, Error> {
        let asked = text(reference);
        let raw =
            self.client().manifest(&self.name, &asked, limit).await.map_err(|failure| match failure {
                Failure::Absent => {
                    Error::ManifestUnknown { repository: self.local.clone(), reference: asked }
                }
                other => self.failed(other),
            })?;
        let wrong = |detail: String| self.failed(Failure::Wrong(detail));
        let digest = match reference {
            TagOrDigest::Digest(digest) => digest.clone(),
            TagOrDigest::Tag(_) => Digest::of(&raw.bytes),
        };
        if Digest::of_with(digest.algorithm(), &raw.bytes) != digest {
            return Err(wrong(format!("its bytes do not match {digest}")));
        }
        let media_type = match Outline::read(&raw.media_type, &raw.bytes) {
            Ok(_) => raw.media_type,
            // Some upstreams send a media type of their own; then the one in the document counts.
            Err(e) => Outline::media_type_within(&raw.bytes)
                .filter(|inner| Outline::read(inner, &raw.bytes).is_ok())
                .ok_or_else(|| wrong(format!("it is not a manifest: {e}")))?,
        };
        Ok(NewManifest { digest, media_type, bytes: raw.bytes })
    }

    /// Refuses a manifest whose blobs cannot be fetched now: a client that got it would not ask another registry any
    /// more.
    async fn can_be_had(&self, store: &Store, found: &ManifestRecord) -> Result<(), Error> {
        if self.client().is_resting() && store.catalog.lacks_blobs(&self.local, &found.digest).await? {
            return Err(self.failed(Failure::away("it cannot be reached, and not all of the image is here")));
        }
        Ok(())
    }

    /// Whether a tag is configured to never move here.
    pub(crate) fn is_fixed(&self, tag: &Tag) -> bool {
        self.client().config().fixed.iter().any(|pattern| pattern.matches(tag.as_str()))
    }

    fn is_fresh(&self, tag: &Tag) -> bool {
        if self.is_fixed(tag) {
            return true;
        }
        let ttl = self.client().config().ttl;
        let checked = locked(&self.upstream.checked);
        checked.get(&(self.local.clone(), tag.clone())).is_some_and(|at| at.elapsed() < ttl)
    }

    pub(crate) fn was_checked(&self, tag: &Tag) {
        let mut checked = locked(&self.upstream.checked);
        let ttl = self.client().config().ttl;
        if checked.len() > 100_000 {
            checked.retain(|_, at| at.elapsed() < ttl);
        }
        checked.insert((self.local.clone(), tag.clone()), Instant::now());
    }

    /// Starts to look up a tag upstream, or joins a look-up that is running; it goes on even if nobody waits for it.
    /// `None` if the upstream is not asked.
    fn look_up_behind(&self, store: &Store, tag: &Tag, known: &Digest, limit: usize) -> Option<Looking> {
        if self.client().is_resting() {
            return None;
        }
        let key = (self.local.clone(), tag.clone());
        let mut running = locked(&self.upstream.looking.running);
        if let Some(looking) = running.get(&key) {
            return Some(looking.clone());
        }
        let (tell, looking) = watch::channel(None);
        running.insert(key.clone(), looking.clone());
        drop(running);
        let (this, store, tag, known) = (self.clone(), store.clone(), tag.clone(), known.clone());
        tokio::spawn(async move {
            let looked = this.look_up(&store, &tag, &known, limit).await;
            if let Err(error) = &looked {
                let error = error.sentence();
                tracing::warn!(repository = %this.local, %tag, error, "a tag could not be looked up");
            }
            locked(&this.upstream.looking.running).remove(&key);
            tell.send_replace(Some(looked.is_ok()));
        });
        Some(looking)
    }

    /// Waits for a look-up of a tag and returns its manifest; the old one if the look-up fails or takes longer than
    /// `time`. Then it goes on for the next client.
    async fn looked_up(
        &self,
        store: &Store,
        (tag, was): (&Tag, ManifestRecord),
        mut looking: Looking,
        time: Duration,
    ) -> Result<(ManifestRecord, Freshness), Error> {
        let ended = timeout(time, looking.wait_for(Option::is_some)).await;
        let looked = ended.is_ok_and(|ended| ended.is_ok_and(|well| *well == Some(true)));
        if !looked {
            return Ok((was, Freshness::Stale));
        }
        let now = store.catalog.manifest(&self.local, &TagOrDigest::Tag(tag.clone())).await?;
        let now = now.unwrap_or_else(|| was.clone());
        let freshness = if now.digest == was.digest { Freshness::Hit } else { Freshness::Miss };
        Ok((now, freshness))
    }

    async fn look_up(&self, store: &Store, tag: &Tag, known: &Digest, limit: usize) -> Result<(), Error> {
        let said = match self.client().head(&self.name, tag.as_str()).await {
            Ok(said) => said,
            // A tag that is gone upstream stays here: clients that have its digest still want it.
            Err(Failure::Absent) => {
                self.was_checked(tag);
                return Ok(());
            }
            Err(failure) => return Err(self.failed(failure)),
        };
        // The tag counts as looked up whatever follows: a manifest that is refused is not fetched again with every
        // pull.
        self.was_checked(tag);
        if said.as_ref() != Some(known) {
            self.fetch_manifest(store, &TagOrDigest::Tag(tag.clone()), limit).await?;
        }
        Ok(())
    }
}

/// The reference as a request to the upstream names it.
fn text(reference: &TagOrDigest) -> String {
    match reference {
        TagOrDigest::Tag(tag) => tag.to_string(),
        TagOrDigest::Digest(digest) => digest.to_string(),
    }
}
