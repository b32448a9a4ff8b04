//! Other registries, pulled through: what is not here yet is fetched, checked, kept and served.
//!
//! A repository of upstream `docker.io` is kept here as `docker.io/library/alpine`. A client may name it so in the path,
//! as podman and CRI-O do, or leave the upstream to `?ns=docker.io`, as containerd does; both are one repository.
//!
//! A manifest comes by `pull`, a blob by `arrive` and `download`, what is said about a manifest by `about`; `signed`
//! decides whether any of it is served, `sync` brings whole images here before anybody asks, and `mend` brings back what
//! the disk lost. All of them ask through `client`, which knows how (`token`, `pin`), for how long, and when not to (`rest`);
//! what may be asked at all, `hab_outbound` decides.

mod about;
mod absent;
mod arrive;
mod client;
mod config;
mod download;
mod failure;
mod hub;
mod judge;
mod mend;
mod pages;
mod pin;
mod pull;
mod rest;
mod signed;
mod sizes;
mod sync;
mod tags;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::HeaderValue;
use axum::response::Response;
use hab_oci::{RepositoryName, Tag};

use crate::error::Error;
use crate::http::CACHE;
use crate::observe::Metrics;
use about::Known;
use absent::Absent;
use arrive::Downloads;
use client::Client;
use failure::Failure;
use pull::LookUps;
use sizes::Sizes;
use tags::TagLists;

pub(crate) use arrive::Arriving;
pub use config::{Patience, Revalidate, Signed, UpstreamConfig};
pub(crate) use download::Download;
pub(crate) use failure::Failure as UpstreamFailure;
pub use judge::{Judge, Signature};
pub use sync::{Change, PlatformName, Selection, SelectionError, SyncError, SyncRule, Synced};

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
    /// Blobs on their way.
    downloads: Downloads,
    /// Requests for one thing wait for each other here; an entry lives as long as somebody holds it.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// When each tag was last looked up. Held for a map operation only.
    checked: Mutex<HashMap<(RepositoryName, Tag), Instant>>,
    /// Tags that are being looked up.
    looking: LookUps,
    /// What it lately said that it does not have.
    absent: Absent,
    /// Sizes that it lately said.
    sizes: Sizes,
    /// Lists of tags that it lately sent.
    tags: TagLists,
    /// What it lately said about manifests. Held for a map operation only.
    known: Mutex<Known>,
    /// Manifests whose signatures suffice, and when those of others were last asked for. Held for a map operation only.
    verdicts: Mutex<signed::Verdicts>,
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
                downloads: Downloads::default(),
                turns: Mutex::default(),
                checked: Mutex::default(),
                looking: LookUps::default(),
                absent: Absent::default(),
                sizes: Sizes::default(),
                tags: TagLists::default(),
                known: Mutex::default(),
                verdicts: Mutex::default(),
            };
            if all.insert(name.clone(), Arc::new(upstream)).is_some() {
                return Err(format!("upstream {name:?} is there twice"));
            }
        }
        Ok(Self(Arc::new(all)))
    }

    /// Asks each of them what it wants to know before it answers, so that the first pull need not; and says what is wrong
    /// with each, in a sentence.
    pub async fn greet(&self) -> Vec<String> {
        let greeted = self.0.values().map(|upstream| async {
            let failure = upstream.client.greet().await.err()?;
            Some(format!("upstream {}: {failure}", upstream.client.config().name))
        });
        let mut wrong: Vec<String> =
            futures_util::future::join_all(greeted).await.into_iter().flatten().collect();
        wrong.sort();
        wrong
    }

    /// Counts requests there from now on.
    pub(crate) fn count_in(&self, metrics: &Metrics) {
        for upstream in self.0.values() {
            // Only the first one counts: it is the one that is served.
            let _ = upstream.client.metrics.set(metrics.clone());
        }
    }

    /// An upstream by its name, or by another name of the same one.
    fn named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.0.get(name).or_else(|| hub::other_names(name).find_map(|other| self.0.get(other)))
    }

    /// Whose repository a request means: an upstream's, or `None`: ours. An `ns` that is no upstream's is nobody's.
    pub(crate) fn find(&self, name: &RepositoryName, ns: Option<&str>) -> Result<Option<Remote>, Error> {
        let unknown = || Error::NameUnknown(name.clone());
        let (upstream, rest) = if let Some(ns) = ns {
            (self.named(ns).ok_or_else(unknown)?, name.as_str())
        } else {
            let Some((first, rest)) = name.as_str().split_once('/') else { return Ok(None) };
            match self.named(first) {
                Some(upstream) => (upstream, rest),
                None => return Ok(None),
            }
        };
        let config = upstream.client.config();
        let rest = &*hub::full_name(config, rest);
        if !config.repositories.is_empty() && !config.repositories.iter().any(|p| p.matches(rest)) {
            return Err(Error::NotAllowed(name.clone()));
        }
        let local = format!("{}/{rest}", config.name).parse().map_err(Error::Name)?;
        Ok(Some(Remote { upstream: upstream.clone(), name: rest.to_owned(), local }))
    }
}

impl Remote {
    fn client(&self) -> &Client {
        &self.upstream.client
    }

    /// One at a time for each thing.
    async fn turn(&self, what: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = locked(&self.upstream.turns);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(format!("{} {what}", self.local)).or_default().clone()
        };
        turn.lock_owned().await
    }

    pub(crate) fn failed(&self, failure: Failure) -> Error {
        if matches!(failure, Failure::Wrong(_)) {
            self.client().count("wrong");
        }
        Error::Upstream { name: self.client().config().name.clone(), failure }
    }

    /// Says where an answer came from, to the client and to who watches.
    pub(crate) fn answered(
        &self,
        metrics: &Metrics,
        kind: &'static str,
        from: Freshness,
        response: &mut Response,
    ) {
        response.headers_mut().insert(CACHE, HeaderValue::from_static(from.word()));
        metrics.pulled(&self.client().config().name, kind, from);
    }
}

/// No panic while one of these is held leaves half a map operation behind.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
