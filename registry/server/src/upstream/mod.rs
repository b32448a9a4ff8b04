//! Other registries, pulled through: what is not here yet is fetched, checked, kept and served.
//!
//! A repository of upstream `docker.io` is kept here as `docker.io/library/alpine`. A client may name it so in the path,
//! as podman and CRI-O do, or leave the upstream to `?ns=docker.io`, as containerd does; both are one repository.

mod challenge;
mod client;
mod download;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hab_oci::{Digest, Outline, RepositoryName, Tag, TagOrDigest};
use hab_store::{Gaps, ManifestRecord, NewManifest, Pattern, Publication, Store};

use crate::error::Error;
use crate::registry::now;
use client::{Client, Failure};
use download::{Download, Errand};

pub(crate) use client::Failure as UpstreamFailure;

/// Another registry. Plain data.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// What its images are named by: `docker.io`. One part of a repository's name.
    pub name: String,
    /// Where it is: `https://registry.example`.
    pub url: String,
    /// For whom it answers.
    pub username: Option<String>,
    /// Goes with the name.
    pub password: Option<String>,
    /// Which of its repositories may be pulled; all without.
    pub repositories: Vec<Pattern>,
    /// Tags may not be pulled, only digests.
    pub digest_only: bool,
    /// For how long a tag is what it was.
    pub ttl: Duration,
    /// Tags that stay what they were first.
    pub fixed: Vec<Pattern>,
}

/// How a client is told where an answer came from: `x-hab-cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// It was here.
    Hit,
    /// It came from upstream just now.
    Miss,
    /// It was here, and upstream may have another by now.
    Stale,
}

impl Freshness {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
        }
    }
}

/// One upstream, and what is under way.
#[derive(Debug)]
pub(crate) struct Upstream {
    client: Arc<Client>,
    /// Blobs on their way. Held for a map operation only.
    downloads: Mutex<HashMap<Digest, Download>>,
    /// Requests for one thing wait for each other here; an entry lives as long as somebody holds it.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// When each tag was last looked up. Held for a map operation only.
    checked: Mutex<HashMap<(RepositoryName, Tag), Instant>>,
    /// Tags that are being looked up. Held for a set operation only.
    checking: Mutex<HashSet<(RepositoryName, Tag)>>,
}

/// All upstreams by name.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(Arc<HashMap<String, Arc<Upstream>>>);

/// A repository of an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) upstream: Arc<Upstream>,
    /// Its name there.
    pub(crate) name: String,
    /// Its name here.
    pub(crate) local: RepositoryName,
}

/// A blob that is here, or on its way.
pub(crate) enum Arriving {
    Here,
    Coming(Download),
}

impl Upstreams {
    /// Prepares to ask these; nothing is asked yet. The sentence says which one cannot be.
    pub fn new(configs: Vec<UpstreamConfig>) -> Result<Self, String> {
        let mut all = HashMap::new();
        for config in configs {
            let name = config.name.clone();
            if name.contains('/') || name.parse::<RepositoryName>().is_err() {
                return Err(format!("upstream {name:?}: its name must be one part of a repository's name"));
            }
            let upstream = Upstream {
                client: Arc::new(Client::new(config)?),
                downloads: Mutex::default(),
                turns: Mutex::default(),
                checked: Mutex::default(),
                checking: Mutex::default(),
            };
            if all.insert(name.clone(), Arc::new(upstream)).is_some() {
                return Err(format!("upstream {name:?} is there twice"));
            }
        }
        Ok(Self(Arc::new(all)))
    }

    /// Whose repository a request means: an upstream's, or `None`: ours. An `ns` that is no upstream's is nobody's.
    pub(crate) fn find(&self, name: &RepositoryName, ns: Option<&str>) -> Result<Option<Remote>, Error> {
        let unknown = || Error::NameUnknown(name.clone());
        let (upstream, rest) = if let Some(ns) = ns {
            (self.0.get(ns).ok_or_else(unknown)?, name.as_str())
        } else {
            let Some((first, rest)) = name.as_str().split_once('/') else { return Ok(None) };
            match self.0.get(first) {
                Some(upstream) => (upstream, rest),
                None => return Ok(None),
            }
        };
        let config = upstream.client.config();
        if !config.repositories.is_empty() && !config.repositories.iter().any(|p| p.matches(rest)) {
            return Err(Error::NotAllowed(name.clone()));
        }
        let local = format!("{}/{rest}", config.name).parse().map_err(Error::Name)?;
        Ok(Some(Remote { upstream: upstream.clone(), name: rest.to_owned(), local }))
    }
}

impl Remote {
    /// A manifest: from here where it may be, else from upstream.
    pub(crate) async fn manifest(
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
            (TagOrDigest::Digest(digest), None) => {
                let _turn = self.turn(&digest.to_string()).await;
                if let Some(found) = store.catalog.manifest(&self.local, reference).await? {
                    return Ok((found, Freshness::Hit));
                }
                let found = self.fetch_manifest(store, reference, None, limit).await?;
                Ok((found, Freshness::Miss))
            }
            (TagOrDigest::Tag(_), _) if self.upstream.client.config().digest_only => {
                Err(Error::DigestOnly(self.local.clone()))
            }
            (TagOrDigest::Tag(tag), Some(found)) => {
                self.can_be_had(store, &found).await?;
                if self.is_fresh(tag) {
                    return Ok((found, Freshness::Hit));
                }
                self.look_up_behind(store, tag, &found.digest, limit);
                Ok((found, Freshness::Stale))
            }
            (TagOrDigest::Tag(tag), None) => {
                let _turn = self.turn(tag.as_str()).await;
                if let Some(found) = store.catalog.manifest(&self.local, reference).await? {
                    return Ok((found, Freshness::Hit));
                }
                let found = self.fetch_manifest(store, reference, Some(tag), limit).await?;
                self.was_checked(tag);
                Ok((found, Freshness::Miss))
            }
        }
    }

    /// A blob: makes it a member of the repository here, or says where it is on its way.
    pub(crate) async fn blob(&self, store: &Store, digest: &Digest, limit: u64) -> Result<Arriving, Error> {
        let unknown = || Error::BlobUnknown { repository: self.local.clone(), digest: digest.clone() };
        let failed = |failure| match failure {
            Failure::Absent => unknown(),
            other => self.failed(other),
        };
        if let Some(download) = self.downloads().get(digest) {
            return Ok(Arriving::Coming(download.clone()));
        }
        let _turn = self.turn(&digest.to_string()).await;
        if store.catalog.blob(&self.local, digest).await?.is_some() {
            return Ok(Arriving::Here);
        }
        if let Some(download) = self.downloads().get(digest) {
            return Ok(Arriving::Coming(download.clone()));
        }
        let (blobs, key) = (store.blobs.clone(), digest.clone());
        let kept = crate::body::blocking(move || blobs.get(&key)).await?;
        // The same bytes came here by another way, and a manifest of this repository names them.
        if let Some(size) = kept
            && store.catalog.points_at(&self.local, digest).await?
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
        let done = move || {
            upstream.downloads.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        };
        let download = Download::start(errand, done).await.map_err(failed)?;
        self.downloads().insert(digest.clone(), download.clone());
        // It may have ended before it was in the map.
        if download.is_over() {
            self.downloads().remove(digest);
        }
        Ok(Arriving::Coming(download))
    }

    fn downloads(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Download>> {
        self.upstream.downloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches a manifest, checks that it is one, and keeps it with the tag.
    async fn fetch_manifest(
        &self,
        store: &Store,
        reference: &TagOrDigest,
        tag: Option<&Tag>,
        limit: usize,
    ) -> Result<ManifestRecord, Error> {
        let asked = match reference {
            TagOrDigest::Tag(tag) => tag.to_string(),
            TagOrDigest::Digest(digest) => digest.to_string(),
        };
        let absent = || Error::ManifestUnknown { repository: self.local.clone(), reference: asked.clone() };
        let raw =
            self.upstream.client.manifest(&self.name, &asked, limit).await.map_err(
                |failure| match failure {
                    Failure::Absent => absent(),
                    other => self.failed(other),
                },
            )?;
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
        let size = raw.bytes.len() as u64;
        let manifest =
            NewManifest { digest: digest.clone(), media_type: media_type.clone(), bytes: raw.bytes };
        store
            .publish(Publication {
                repository: self.local.clone(),
                blobs: Vec::new(),
                manifests: vec![manifest],
                tags: tag.cloned().into_iter().collect(),
                root: digest.clone(),
                // Its layers come when they are asked for.
                gaps: Gaps::All,
                at: now(),
            })
            .await?;
        Ok(ManifestRecord { digest, media_type, size })
    }

    /// Never a manifest whose blobs cannot be had: a client that got it would not ask anybody else any more.
    async fn can_be_had(&self, store: &Store, found: &ManifestRecord) -> Result<(), Error> {
        if self.upstream.client.is_resting() && store.catalog.lacks_blobs(&self.local, &found.digest).await? {
            return Err(self.failed(Failure::Away("it is away, and not all of the image is here".to_owned())));
        }
        Ok(())
    }

    fn is_fresh(&self, tag: &Tag) -> bool {
        let config = self.upstream.client.config();
        if config.fixed.iter().any(|pattern| pattern.matches(tag.as_str())) {
            return true;
        }
        let checked = self.upstream.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.get(&(self.local.clone(), tag.clone())).is_some_and(|at| at.elapsed() < config.ttl)
    }

    fn was_checked(&self, tag: &Tag) {
        let mut checked = self.upstream.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let ttl = self.upstream.client.config().ttl;
        if checked.len() > 100_000 {
            checked.retain(|_, at| at.elapsed() < ttl);
        }
        checked.insert((self.local.clone(), tag.clone()), Instant::now());
    }

    /// Asks upstream what a tag is now, once at a time, while the client already has what it was.
    fn look_up_behind(&self, store: &Store, tag: &Tag, known: &Digest, limit: usize) {
        let key = (self.local.clone(), tag.clone());
        let mut checking = self.upstream.checking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.upstream.client.is_resting() || !checking.insert(key.clone()) {
            return;
        }
        let (this, store, tag, known) = (self.clone(), store.clone(), tag.clone(), known.clone());
        tokio::spawn(async move {
            let looked = this.look_up(&store, &tag, &known, limit).await;
            if let Err(error) = looked {
                tracing::warn!(repository = %this.local, %tag, %error, "a tag could not be looked up");
            }
            this.upstream.checking.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        });
    }

    async fn look_up(&self, store: &Store, tag: &Tag, known: &Digest, limit: usize) -> Result<(), Error> {
        let said = match self.upstream.client.head(&self.name, tag.as_str()).await {
            Ok(said) => said,
            // What is gone there stays here: clients that have its digest want it still.
            Err(Failure::Absent) => {
                self.was_checked(tag);
                return Ok(());
            }
            Err(failure) => return Err(self.failed(failure)),
        };
        if said.as_ref() != Some(known) {
            self.fetch_manifest(store, &TagOrDigest::Tag(tag.clone()), Some(tag), limit).await?;
        }
        self.was_checked(tag);
        Ok(())
    }

    /// One at a time for each thing.
    async fn turn(&self, what: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.upstream.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(format!("{} {what}", self.local)).or_default().clone()
        };
        turn.lock_owned().await
    }

    pub(crate) fn failed(&self, failure: Failure) -> Error {
        Error::Upstream { name: self.upstream.client.config().name.clone(), failure }
    }
}
