//! Fetches whole images before anybody asks: every tag that a rule selects, with everything that it needs and
//! everything that refers to it.
//!
//! A tag moves here only when all of that is here and was checked, so there is never half an image. Nothing that is
//! here already is fetched again: a sync that was cut short goes on where it was.

mod change;
mod copy;
mod platform;
mod rule;
mod selection;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hab_oci::{Tag, TagOrDigest};
use hab_store::Store;

use crate::error::Error;
use crate::failure::Failure;
use crate::limits::UpstreamLimits;
use crate::remote::Remote;
use crate::upstreams::Upstreams;
use change::changed;
pub use change::{Change, SyncError, Synced};
use copy::Copy;
pub use platform::PlatformName;
pub use rule::SyncRule;
pub(crate) use selection::is_beside;
pub use selection::{Selection, SelectionError};

/// The longest pause of an upstream that a sync waits for.
const PATIENCE: Duration = Duration::from_secs(2 * 60);
/// How often a sync waits for a pause that the upstream asked for, and for an upstream that cannot be reached.
const WAITS: [usize; 2] = [3, 1];

impl Upstreams {
    /// Fetches once what a rule selects of an upstream; with `dry_run`, only says what would change. `told` is called
    /// for every tag when its change is known.
    pub async fn sync(
        &self,
        store: &Store,
        upstream: &str,
        rule: &SyncRule,
        dry_run: bool,
        told: impl Fn(&Tag, &Change),
    ) -> Result<Synced, SyncError> {
        let name = format!("{upstream}/{}", rule.repository);
        let remote = name.parse().map_err(Error::Name).and_then(|name| {
            let unknown = || Error::NameUnknown(rule.repository.clone());
            self.find(&name, None)?.ok_or_else(unknown)
        });
        let remote = remote.map_err(SyncError)?;
        let listed = patiently(&remote, || async {
            remote.client().tags(&remote.name).await.map_err(|failure| match failure {
                Failure::Absent => Error::NameUnknown(remote.local.clone()),
                other => remote.failed(other),
            })
        });
        let listed = listed.await.map_err(SyncError)?;
        let there: HashSet<Tag> = listed.iter().cloned().collect();
        let copy = Copy::new(&remote, store, rule, &there, UpstreamLimits::default());
        let mut tags: Vec<(Tag, Change)> = Vec::new();
        let mut away = None;
        for tag in rule.tags.of(&listed) {
            let changed = match &away {
                // An upstream that did not answer for minutes is not waited for again for each tag.
                Some(failure) => Err(remote.failed(Failure::clone(failure))),
                None if dry_run => patiently(&remote, || would_change(&remote, store, &tag)).await,
                None => patiently(&remote, || copy.image(&tag)).await,
            };
            if let Err(Error::Failed { failure: failure @ Failure::Away(_), .. }) = &changed {
                away = Some(failure.clone());
            }
            let change = changed.unwrap_or_else(|error| Change::Failed(SyncError(error)));
            told(&tag, &change);
            tags.push((tag, change));
        }
        let bytes = copy.bytes.load(Ordering::Relaxed);
        Ok(Synced { repository: remote.local.clone(), listed: listed.len(), tags, bytes })
    }
}

/// Calls `work`, and again after a short pause of the upstream.
async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    remote: &Remote,
    work: impl Fn() -> F,
) -> Result<T, Error> {
    let mut waited = 0;
    loop {
        match (work().await, remote.client().rest_left()) {
            (Err(Error::Failed { failure: Failure::Away(_), .. }), Some((left, asked)))
                if left <= PATIENCE && waited < WAITS[usize::from(!asked)] =>
            {
                waited += 1;
                tokio::time::sleep(left).await;
            }
            (other, _) => return other,
        }
    }
}

async fn would_change(remote: &Remote, store: &Store, tag: &Tag) -> Result<Change, Error> {
    let here = store.catalog.manifest(&remote.local, &TagOrDigest::Tag(tag.clone())).await?;
    if let Some(here) = here.as_ref().filter(|_| remote.is_fixed(tag)) {
        return Ok(Change::Same(here.digest.clone()));
    }
    let asked = || Error::ManifestUnknown { repository: remote.local.clone(), reference: tag.to_string() };
    let there = remote.client().head(&remote.name, tag.as_str()).await.map_err(|failure| match failure {
        Failure::Absent => asked(),
        other => remote.failed(other),
    })?;
    let there = if let Some(digest) = there {
        digest
    } else {
        // Some upstreams state a digest only together with the manifest.
        let reference = TagOrDigest::Tag(tag.clone());
        remote.receive_manifest(&reference, UpstreamLimits::default().manifest).await?.digest
    };
    Ok(changed(here.map(|here| here.digest), there))
}
