//! The registry, tended: `hab-build registry`.

use std::sync::Arc;
use std::time::Duration;

use hab_oci::{Digest, RepositoryName, Tag};
use hab_registry::{Metrics, Upstreams};
use hab_store::{
    Back, Bytes, Collected, Collection, Mender, RepositoryRow, Scrub, Scrubbed, Span, Store, TagMove, TagRow,
};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Farm, FarmError, Progress, open};

/// Between two passes of a scrub, and before it is tried again when it failed.
const REST: Duration = Duration::from_secs(24 * 60 * 60);
/// How long after its start `serve` collects first, at the latest.
const SETTLE: Duration = Duration::from_secs(5 * 60);

impl Farm {
    /// Every repository.
    pub fn repositories(&self) -> Result<Vec<RepositoryRow>, FarmError> {
        Ok(self.runtime.block_on(self.store.catalog.repositories())?)
    }

    /// Every tag of a repository.
    pub fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagRow>, FarmError> {
        if !self.runtime.block_on(self.store.catalog.has_repository(repository))? {
            return Err(FarmError::Usage(format!("there is no repository {repository}")));
        }
        Ok(self.runtime.block_on(self.store.catalog.tag_rows(repository))?)
    }

    /// Every move of a tag, the first one first.
    pub fn tag_history(&self, repository: &RepositoryName, tag: &Tag) -> Result<Vec<TagMove>, FarmError> {
        let moves = self.runtime.block_on(self.store.catalog.tag_history(repository, tag))?;
        if moves.is_empty() {
            return Err(FarmError::Usage(format!("{repository} never had a tag {tag}")));
        }
        Ok(moves)
    }

    /// Moves a tag back to where it was.
    pub fn rollback(&self, repository: &RepositoryName, tag: &Tag, back: &Back) -> Result<Digest, FarmError> {
        Ok(self.runtime.block_on(self.store.catalog.rollback_tag(repository, tag, back, open::now()))?)
    }

    /// Removes what nothing needs any more, or says what that would be.
    pub fn collect(&self, dry_run: bool) -> Result<Collected, FarmError> {
        let (rules, now) = (self.collection(), open::now());
        Ok(if dry_run {
            self.runtime.block_on(self.store.would_collect(&rules, now))?
        } else {
            self.runtime.block_on(self.store.collect(&rules, now))?
        })
    }

    /// Hashes everything that is kept, once, at most so many bytes a second; what is damaged is fetched again where an
    /// upstream has it.
    pub fn scrub(&self, rate: Option<Bytes>) -> Result<Scrubbed, FarmError> {
        let mut scrub = Scrub::new(self.store.clone(), rate);
        if !self.options.offline {
            scrub = scrub.with_mender(self.upstreams()?.mender(&self.store));
        }
        Ok(self.runtime.block_on(scrub.pass(open::now()))?)
    }

    /// Collects and scrubs as often as the operator wants, until it is aborted; what comes of it is counted.
    pub fn tend(&self, upstreams: &Upstreams, metrics: &Metrics) -> JoinHandle<()> {
        let config = &self.options.config.registry;
        let (rules, every, rate) = (self.collection(), config.collect, config.scrub);
        let (store, progress) = (self.store.clone(), self.progress.clone());
        let (mender, metrics) = (upstreams.mender(&store), metrics.clone());
        self.runtime.spawn(async move {
            let scrubbing = scrub_on(&store, rate, &mender, &progress, &metrics);
            let collecting = collect_often(&store, &rules, every, &progress, &metrics);
            tokio::join!(collecting, scrubbing, keep_catalog(&store, &progress));
        })
    }

    fn collection(&self) -> Collection {
        let config = &self.options.config.registry;
        Collection { grace: config.grace, retain: config.retain.clone() }
    }
}

async fn collect_often(
    store: &Store,
    rules: &Collection,
    every: Span,
    progress: &Arc<dyn Progress>,
    metrics: &Metrics,
) {
    if every.seconds() == 0 {
        return;
    }
    sleep(SETTLE.min(every.into())).await;
    loop {
        let collected = store.collect(rules, open::now()).await;
        metrics.collected(collected.as_ref().ok());
        match collected {
            Ok(gone) => {
                for line in held_back(&gone) {
                    progress.note(&line);
                }
                if !gone.is_nothing() {
                    progress.note(&format!("collected: {}", words(&gone)));
                }
            }
            Err(e) => progress.note(&format!("not collected: {}", chain(&e))),
        }
        sleep(every.into()).await;
    }
}

async fn scrub_on(
    store: &Store,
    rate: Bytes,
    mender: &Arc<dyn Mender>,
    progress: &Arc<dyn Progress>,
    metrics: &Metrics,
) {
    if rate.get() == 0 {
        return;
    }
    loop {
        let mut scrub = Scrub::new(store.clone(), Some(rate)).with_mender(mender.clone());
        let told = |part: &Scrubbed| {
            metrics.scrubbed(part);
            if part.strays > 0 {
                progress.note(&format!(
                    "{} files that the catalog does not know were set aside in blobs/strays; \
                     `hab-build store strays` lists them",
                    part.strays
                ));
            }
            for digest in part.damaged.iter().chain(&part.missing) {
                let what = if part.mended.contains(digest) {
                    "was damaged or gone; it was fetched again"
                } else {
                    "is damaged or gone; it is not served until it is pushed again"
                };
                progress.note(&format!("{digest} {what}"));
            }
        };
        if let Err(e) = scrub.go_on(open::now, told).await {
            progress.note(&format!("the scrub stopped: {}", chain(&e)));
        }
        sleep(REST).await;
    }
}

/// Reads the whole catalog and copies it to beside the blobs, once a day. Never ends.
async fn keep_catalog(store: &Store, progress: &Arc<dyn Progress>) {
    loop {
        let checked = match store.catalog.check().await {
            Ok(()) => store.copy_catalog().await,
            Err(e) => Err(e),
        };
        if let Err(e) = checked {
            let hint = e.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            progress.note(&format!("the catalog was not copied: {}{hint}", chain(&e)));
        }
        sleep(REST).await;
    }
}

/// Which repositories keep something for longer because of uploads in progress, for people.
pub fn held_back(gone: &Collected) -> Vec<String> {
    let line = |(repository, uploads, since): &(RepositoryName, usize, i64)| {
        let minutes = (open::now() - since) / 60;
        format!(
            "{repository}: what became unneeded lately stays, because of uploads in progress: {uploads}, the oldest begun \
             {minutes} minutes ago"
        )
    };
    gone.held_back.iter().map(line).collect()
}

/// What a collection did, for people.
pub fn words(gone: &Collected) -> String {
    let (tags, manifests, blobs, bytes) = (gone.tags.len(), gone.manifests, gone.blobs, gone.bytes);
    format!("{tags} tags, {manifests} manifests, {blobs} blobs of {bytes} bytes")
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
