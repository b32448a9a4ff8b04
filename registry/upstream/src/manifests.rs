//! A manifest that is asked for: from here where it may be, else from upstream.

use std::time::{Duration, Instant};

use hab_oci::{Digest, Outline, Tag, TagOrDigest};
use hab_store::{Gaps, ManifestRecord, NewManifest, Publication, Store};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::now;
use crate::config::Revalidate;
use crate::error::Error;
use crate::failure::Failure;
use crate::freshness::Freshness;
use crate::memory::{Looking, locked};
use crate::remote::Remote;

impl Remote {
    /// A manifest, which is here afterwards and may be served. `limit`: bytes of one.
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

    /// A manifest that is not here: one request for all who want it at the same time, and all of them get its answer.
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

    /// Fetches a manifest, checks that it is one, and keeps it; the tag that it was asked by goes there if it may be
    /// served.
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
        // A tag that was signed stays at what was, until what it is now is signed too.
        if !tags.is_empty() && self.wants_signatures() {
            self.keep_manifests(store, vec![manifest.clone()], Vec::new(), Gaps::All).await?;
            self.approve(store, reference, &digest, limit).await?;
        }
        // Its layers come when they are asked for.
        self.keep_manifests(store, vec![manifest], tags, Gaps::All).await?;
        Ok(ManifestRecord { digest, media_type, size })
    }

    /// Keeps manifests here, with tags at the last one.
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

    /// Fetches a manifest and checks that it is one; keeps nothing.
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
            return Err(wrong(format!("other bytes than {digest}")));
        }
        let media_type = match Outline::read(&raw.media_type, &raw.bytes) {
            Ok(_) => raw.media_type,
            // Some send a type of their own; what the document says of itself counts then.
            Err(e) => Outline::media_type_within(&raw.bytes)
                .filter(|inner| Outline::read(inner, &raw.bytes).is_ok())
                .ok_or_else(|| wrong(format!("no manifest: {e}")))?,
        };
        Ok(NewManifest { digest, media_type, bytes: raw.bytes })
    }

    /// Never a manifest whose blobs cannot be had: a client that got it would not ask anybody else any more.
    async fn can_be_had(&self, store: &Store, found: &ManifestRecord) -> Result<(), Error> {
        if self.client().is_resting() && store.catalog.lacks_blobs(&self.local, &found.digest).await? {
            return Err(self.failed(Failure::away("it is away, and not all of the image is here")));
        }
        Ok(())
    }

    /// Whether a tag stays what it was first.
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

    /// Asks upstream what a tag is now, once at a time, whether or not somebody waits for it; `None` if it is not
    /// asked.
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

    /// What a tag is when it was looked up; what it was, if that fails or takes longer than `time`. It goes on then,
    /// for the next one who asks.
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
            // What is gone there stays here: clients that have its digest want it still.
            Err(Failure::Absent) => {
                self.was_checked(tag);
                return Ok(());
            }
            Err(failure) => return Err(self.failed(failure)),
        };
        // Whatever comes of it, it was looked up: one that is refused is not fetched again with every pull.
        self.was_checked(tag);
        if said.as_ref() != Some(known) {
            self.fetch_manifest(store, &TagOrDigest::Tag(tag.clone()), limit).await?;
        }
        Ok(())
    }
}

/// As upstream is asked for it.
fn text(reference: &TagOrDigest) -> String {
    match reference {
        TagOrDigest::Tag(tag) => tag.to_string(),
        TagOrDigest::Digest(digest) => digest.to_string(),
    }
}
