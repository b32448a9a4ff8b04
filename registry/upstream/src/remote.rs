//! One upstream, its running requests and remembered answers, and one of its repositories.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hab_oci::{RepositoryName, Tag};

use crate::client::Client;
use crate::error::Error;
use crate::failure::Failure;
use crate::memory::{Absent, Downloads, LookUps, ReferrerLists, Sizes, TagLists, locked};
use crate::signed::Verdicts;

/// One upstream, its running requests and remembered answers.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) client: Arc<Client>,
    /// Running downloads of blobs.
    pub(crate) downloads: Downloads,
    /// Requests for the same thing wait for each other here; an entry lives as long as a request holds it.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// When each tag was last looked up. Held for a map operation only.
    pub(crate) checked: Mutex<HashMap<(RepositoryName, Tag), Instant>>,
    /// Tags that are being looked up.
    pub(crate) looking: LookUps,
    /// What the upstream recently said that it does not have.
    pub(crate) absent: Absent,
    /// Sizes of blobs that it recently stated.
    pub(crate) sizes: Sizes,
    /// Lists of tags that it recently sent.
    pub(crate) tags: TagLists,
    /// Lists of referrers that it recently sent. Held for a map operation only.
    pub(crate) known: Mutex<ReferrerLists>,
    /// Manifests with enough signatures, and when signatures of others were last asked for. Held for a map operation
    /// only.
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
    /// Its name at the upstream.
    pub(crate) name: String,
    /// Its name here.
    pub local: RepositoryName,
}

impl Remote {
    pub(crate) fn client(&self) -> &Client {
        &self.upstream.client
    }

    /// Waits for a turn; one request at a time has it for the same `what`.
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

    /// Makes an error of a failed request to it; counts a refused answer.
    pub fn failed(&self, failure: Failure) -> Error {
        if matches!(failure, Failure::Wrong(_)) {
            self.client().count("wrong");
        }
        Error::Failed { name: self.upstream_name().to_owned(), failure }
    }

    /// Whether the upstream said that it has no such thing: since `since`, when this request came, or recently.
    pub(crate) fn is_absent(&self, what: &str, since: Instant) -> bool {
        let key = (self.local.clone(), what.to_owned());
        self.upstream.absent.has(&key, since, self.client().config().absent)
    }

    /// Records that the upstream just said so.
    pub(crate) fn was_absent(&self, what: &str) {
        self.upstream.absent.add((self.local.clone(), what.to_owned()), self.client().config().absent);
    }
}
