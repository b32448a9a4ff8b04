//! One upstream with what is under way and what is remembered of it, and one of its repositories.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hab_oci::{RepositoryName, Tag};

use crate::client::Client;
use crate::error::Error;
use crate::failure::Failure;
use crate::memory::{Absent, Downloads, Known, LookUps, Sizes, TagLists, locked};
use crate::signed::Verdicts;

/// One upstream, and what is under way.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) client: Arc<Client>,
    /// Blobs on their way.
    pub(crate) downloads: Downloads,
    /// Requests for one thing wait for each other here; an entry lives as long as somebody holds it.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// When each tag was last looked up. Held for a map operation only.
    pub(crate) checked: Mutex<HashMap<(RepositoryName, Tag), Instant>>,
    /// Tags that are being looked up.
    pub(crate) looking: LookUps,
    /// What it lately said that it does not have.
    pub(crate) absent: Absent,
    /// Sizes that it lately said.
    pub(crate) sizes: Sizes,
    /// Lists of tags that it lately sent.
    pub(crate) tags: TagLists,
    /// What it lately said about manifests. Held for a map operation only.
    pub(crate) known: Mutex<Known>,
    /// Manifests whose signatures suffice, and when those of others were last asked for. Held for a map operation only.
    pub(crate) verdicts: Mutex<Verdicts>,
}

impl Upstream {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client: Arc::new(client),
            downloads: Downloads::default(),
            turns: Mutex::default(),
            checked: Mutex::default(),
            looking: LookUps::default(),
            absent: Absent::default(),
            sizes: Sizes::default(),
            tags: TagLists::default(),
            known: Mutex::default(),
            verdicts: Mutex::default(),
        }
    }
}

/// A repository of an upstream.
#[derive(Clone, Debug)]
pub struct Remote {
    pub(crate) upstream: Arc<Upstream>,
    /// Its name there.
    pub(crate) name: String,
    /// Its name here.
    pub local: RepositoryName,
}

impl Remote {
    pub(crate) fn client(&self) -> &Client {
        &self.upstream.client
    }

    /// One at a time for each thing.
    pub(crate) async fn turn(&self, what: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = locked(&self.upstream.turns);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(format!("{} {what}", self.local)).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// The upstream's name, which is the first part of the repository's name here.
    pub fn upstream_name(&self) -> &str {
        &self.client().config().name
    }

    /// What became of a request to it; counts what was refused.
    pub fn failed(&self, failure: Failure) -> Error {
        if matches!(failure, Failure::Wrong(_)) {
            self.client().count("wrong");
        }
        Error::Failed { name: self.upstream_name().to_owned(), failure }
    }

    /// Whether upstream said that it has no such thing: since `since`, when this request came, or not long ago.
    pub(crate) fn is_absent(&self, what: &str, since: Instant) -> bool {
        let key = (self.local.clone(), what.to_owned());
        self.upstream.absent.has(&key, since, self.client().config().absent)
    }

    /// Upstream just said so.
    pub(crate) fn was_absent(&self, what: &str) {
        self.upstream.absent.add((self.local.clone(), what.to_owned()), self.client().config().absent);
    }
}
