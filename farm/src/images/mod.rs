//! The care of the registry's images: `hab-build registry`.

pub mod export;
mod gather;
pub mod import;
pub mod sync;
mod told;
pub mod upstreams;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hab_config::RegistryConfig;
use hab_oci::{Digest, RepositoryName, Tag};
use hab_recipe::RecipeSet;
use hab_registry::{Metrics, Upstreams};
use hab_store::{
    Back, Bytes, Collected, Collection, Mender, Pattern, RepositoryRow, Scrub, Scrubbed, Span, Store,
    TagMove, TagRow,
};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::bridge::Bridge;
use crate::error::FarmError;
use crate::progress::Progress;
use crate::words::{counted, near};
use hab_chain::chain;
use hab_clock::now;

/// Time between two passes of a scrub and between two copies of the catalog, also after a failure.
const REST: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest time from the start of `serve` to its first collection.
const SETTLE: Duration = Duration::from_secs(5 * 60);

/// The registry's images.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    /// The store that holds the images.
    pub store: &'a Store,
    /// Calls the catalog from synchronous code.
    pub bridge: &'a Bridge,
    /// The configuration of the registry.
    pub config: &'a RegistryConfig,
    /// The recipes, which say which repositories builds would make.
    pub recipes: &'a RecipeSet,
    /// Receives progress and notes.
    pub progress: &'a Arc<dyn Progress>,
}

impl Images<'_> {
    /// Every repository.
    pub fn repositories(&self) -> Result<Vec<RepositoryRow>, FarmError> {
        Ok(self.bridge.wait(self.store.catalog.repositories())?)
    }

    /// Every tag of a repository.
    pub fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagRow>, FarmError> {
        if !self.bridge.wait(self.store.catalog.has_repository(repository))? {
            return Err(self.unknown_repository(repository)?);
        }
        Ok(self.bridge.wait(self.store.catalog.tag_rows(repository))?)
    }

    fn unknown_repository(&self, name: &RepositoryName) -> Result<FarmError, FarmError> {
        let known = self.repositories()?;
        let near = near(name.as_str(), known.iter().map(|row| row.name.as_str())).map(str::to_owned);
        Ok(FarmError::UnknownRepository { name: name.clone(), near })
    }

    /// Deletes one tag or all tags of a repository, and returns the deleted tags. A later collection removes what they
    /// pointed at.
    pub fn delete_tags(&self, repository: &RepositoryName, tag: Option<&Tag>) -> Result<Vec<Tag>, FarmError> {
        let rows = self.tags(repository)?;
        let wanted: Vec<&Tag> =
            rows.iter().map(|row| &row.tag).filter(|known| tag.is_none_or(|tag| tag == *known)).collect();
        if let (Some(tag), true) = (tag, wanted.is_empty()) {
            let near = near(tag.as_str(), rows.iter().map(|row| row.tag.as_str()));
            let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return Err(FarmError::Usage(format!("{repository} has no tag {tag}{near}")));
        }
        // All or nothing: if one tag is immutable, none is deleted.
        let immutable = |row: &&TagRow| {
            wanted.contains(&&row.tag)
                && self.config.immutable.iter().any(|rule| rule.matches(repository, row.tag.as_str()))
        };
        if let Some(TagRow { tag, digest, .. }) = rows.iter().find(immutable) {
            let (repository, tag, at) = (repository.clone(), tag.clone(), digest.clone());
            return Err(hab_store::Error::Immutable { repository, tag, at }.into());
        }
        let mut gone = Vec::new();
        for tag in wanted {
            if self.bridge.wait(self.store.catalog.delete_tag(repository, tag, now()))? {
                gone.push(tag.clone());
            }
        }
        Ok(gone)
    }

    /// How many bytes a collection would remove if the grace period were zero.
    pub fn unneeded(&self) -> Result<u64, FarmError> {
        let rules = Collection { grace: Span::hours(0), retain: Vec::new() };
        Ok(self.bridge.wait(self.store.would_collect(&rules, now() + 2))?.bytes)
    }

    /// Rules of hab.toml that match no repository, neither one that is here nor one that a recipe or an upstream would
    /// make. One sentence each.
    pub fn idle_rules(&self) -> Result<Vec<String>, FarmError> {
        let config = self.config;
        let mut names: BTreeSet<String> =
            self.repositories()?.iter().map(|row| row.name.to_string()).collect();
        for name in self.recipes.names() {
            // An unreadable recipe reports its error when it is built.
            if let Ok(text) = self.recipes.recipe(name) {
                let repository = text.recipe.image.repository;
                names.insert(format!("unsigned/{repository}"));
                names.insert(repository.to_string());
            }
        }
        let upstreams: Vec<&String> = config.upstream.keys().collect();
        let idle = |pattern: &Pattern| {
            let below = |name: &&String| {
                pattern.matches(&format!("{name}/x")) || pattern.to_string().starts_with(&format!("{name}/"))
            };
            !names.iter().any(|name| pattern.matches(name)) && !upstreams.iter().any(below)
        };
        let tables = config.immutable.iter().map(|tags| ("immutable", &tags.repository));
        let tables = tables.chain(config.retain.iter().map(|rule| ("retain", &rule.tags.repository)));
        let access = config.access.iter().flat_map(|access| &access.rule).flat_map(|rule| &rule.repositories);
        let tables = tables.chain(access.map(|pattern| ("access.rule", pattern)));
        let mut said: Vec<String> = tables
            .filter(|(_, pattern)| idle(pattern))
            .map(|(table, pattern)| {
                format!(
                    "[registry] {table}: no repository is named like {pattern:?}, so the rule does nothing",
                    pattern = pattern.to_string()
                )
            })
            .collect();
        said.dedup();
        if !said.is_empty() {
            let few: Vec<&str> = names
                .iter()
                .map(String::as_str)
                .filter(|name| !name.starts_with("unsigned/"))
                .take(10)
                .collect();
            said.push(format!("repositories have names such as: {}", few.join(", ")));
        }
        Ok(said)
    }

    /// Every move of a tag, oldest first.
    pub fn tag_history(&self, repository: &RepositoryName, tag: &Tag) -> Result<Vec<TagMove>, FarmError> {
        let moves = self.bridge.wait(self.store.catalog.tag_history(repository, tag))?;
        if moves.is_empty() {
            return Err(FarmError::Usage(format!("{repository} never had a tag {tag}")));
        }
        Ok(moves)
    }

    /// Moves a tag back to where it was.
    pub fn rollback(&self, repository: &RepositoryName, tag: &Tag, back: &Back) -> Result<Digest, FarmError> {
        Ok(self.bridge.wait(self.store.catalog.rollback_tag(repository, tag, back, now()))?)
    }

    /// Removes what nothing needs any more, or with `dry_run` returns what that would be.
    pub fn collect(&self, dry_run: bool) -> Result<Collected, FarmError> {
        let (rules, now) = (self.collection(), now());
        self.progress.stage("look for what nothing needs any more");
        // An interrupted collection leaves the rest of its work to the next one.
        let again = "the next collection goes on";
        if dry_run {
            self.bridge.wait_unless(self.progress.cancel(), again, self.store.would_collect(&rules, now))
        } else {
            self.bridge.wait_unless(self.progress.cancel(), again, self.store.collect(&rules, now))
        }
    }

    /// Hashes every blob once, at most `rate` bytes a second. Fetches a damaged blob again if one of `upstreams` has
    /// it.
    pub fn scrub(&self, rate: Option<Bytes>, upstreams: Option<&Upstreams>) -> Result<Scrubbed, FarmError> {
        let mut scrub = Scrub::new(self.store.clone(), rate);
        if let Some(upstreams) = upstreams {
            scrub = scrub.with_mender(upstreams.mender(self.store));
        }
        self.progress.stage("hash everything that is kept again");
        let total = self.bridge.wait(self.store.catalog.totals())?.bytes;
        let told =
            |found: &Scrubbed| self.progress.amount("hashed", found.bytes, Some(total.max(found.bytes)));
        let pass = scrub.pass_telling(now(), told);
        self.bridge.wait_unless(self.progress.cancel(), "what was found so far is set aside", pass)
    }

    /// Collects and scrubs at the operator's intervals until the task is aborted, and counts the results in `metrics`.
    pub fn tend(&self, upstreams: &Upstreams, metrics: &Metrics) -> JoinHandle<()> {
        let config = self.config;
        let (rules, every, rate) = (self.collection(), config.collect, config.scrub);
        let (store, progress) = (self.store.clone(), self.progress.clone());
        let (mender, metrics) = (upstreams.mender(&store), metrics.clone());
        self.bridge.spawn(async move {
            let scrubbing = scrub_on(&store, rate, &mender, &progress, &metrics);
            let collecting = collect_often(&store, &rules, every, &progress, &metrics);
            tokio::join!(collecting, scrubbing, keep_catalog(&store, &progress));
        })
    }

    fn collection(&self) -> Collection {
        let config = self.config;
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
        let collected = store.collect(rules, now()).await;
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
            Err(e) => progress.note(&format!("the collection failed: {}", chain(&e))),
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
                    "set aside in blobs/strays, because the catalog does not know them: {}; `hab-build store strays` \
                     lists them",
                    counted(part.strays, "file")
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
        if let Err(e) = scrub.go_on(now, told).await {
            progress.note(&format!("the scrub stopped: {}", chain(&e)));
        }
        sleep(REST).await;
    }
}

/// Checks the whole catalog and copies it beside the blobs, once a day. Never ends.
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

/// Which repositories keep something longer because of uploads in progress, for people.
pub fn held_back(gone: &Collected) -> Vec<String> {
    let line = |(repository, uploads, since): &(RepositoryName, usize, i64)| {
        let minutes = (now() - since) / 60;
        format!(
            "{repository}: keeps what became unneeded lately, because of uploads in progress: {uploads}, the oldest \
             begun {} ago",
            counted(minutes.unsigned_abs(), "minute")
        )
    };
    gone.held_back.iter().map(line).collect()
}

/// The result of a collection, for people.
pub fn words(gone: &Collected) -> String {
    let (tags, manifests, blobs, bytes) = (gone.tags.len(), gone.manifests, gone.blobs, gone.bytes);
    let (tags, manifests) = (counted(tags as u64, "tag"), counted(manifests, "manifest"));
    format!("{tags}, {manifests}, {} of {}", counted(blobs, "blob"), counted(bytes, "byte"))
}
