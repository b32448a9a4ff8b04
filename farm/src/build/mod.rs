//! The flow of a build: order, plan, verify, build twice, compare, publish. Each step is one call of another room.

pub mod order;
pub mod report;
pub(crate) mod room;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hab_builder::{BuildError, Inputs, Trials, Workshop};
use hab_keys::VerifiedSource;
use hab_oci::{Descriptor, Digest, ImageIndex, Platform, RepositoryName, Tag, TagOrDigest, media_type};
use hab_recipe::Plan;
use hab_store::{Gaps, NewManifest, Publication, Store};

use crate::bridge::Bridge;
use crate::error::FarmError;
use crate::fetching::Fetching;
use crate::folder::DataFolder;
use crate::progress::{BuilderView, Progress};
use crate::source::debian::Debian;
use hab_clock::now;
use order::{Order, Orders, Request};
use report::{
    BuildReport, ExperimentReport, IndexReport, PlatformReport, Record, RunsReport, SourceReport,
    TimingsReport,
};
use room::{DiskSpace, Watch};

/// The largest manifest or index that is read back, in bytes. Our own have a few thousand.
const MANIFEST: u64 = 4 << 20;

/// Builds recipes and publishes the images.
#[derive(Clone, Copy)]
pub struct Builds<'a> {
    /// Resolves requests.
    pub orders: Orders<'a>,
    /// Names the archives that have the toolchains' packages.
    pub debian: Debian<'a>,
    /// Fetches those packages.
    pub fetching: Fetching<'a>,
    /// Checks that the disk has room.
    pub space: DiskSpace<'a>,
    /// Stores outputs and images.
    pub store: &'a Store,
    /// Calls the catalog from synchronous code.
    pub bridge: &'a Bridge,
    /// The data folder, with roots and scratch space.
    pub data: &'a DataFolder,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl Builds<'_> {
    /// Builds the request, unless an earlier build has the result, and publishes the image.
    pub fn run(&self, request: &Request) -> Result<BuildReport, FarmError> {
        let start = Instant::now();
        let order = self.orders.resolve(request)?;
        let tag = tag_for(&order.version)?;
        let known = self.known(&order, request.trials.count)?;
        let (records, cached) = match known {
            Some(records) => (records, true),
            None => (self.build(&order, &request.trials)?, false),
        };
        let index = self.publish(&order, &records, tag)?;
        Ok(report(&order, records, index, cached, start))
    }

    /// Builds the request, even if an earlier build has the result, and keeps nothing: runs with only some
    /// circumstances changed prove less than an image needs.
    pub fn experiment(&self, request: &Request) -> Result<ExperimentReport, FarmError> {
        let order = self.orders.resolve(request)?;
        let records = self.build_each(&order, &request.trials, |_| Ok(None), |_, _, _| Ok(()))?;
        let platforms = records.into_iter().map(|record| record.platform).collect();
        Ok(ExperimentReport { recipe: order.text.recipe.name.clone(), version: order.version, platforms })
    }

    /// The records of all plans of the order, if each plan ran at least `runs` times and its blobs are still here.
    fn known(&self, order: &Order, runs: u32) -> Result<Option<Vec<Record>>, FarmError> {
        let records = order.plans.iter().map(|plan| self.record(plan, runs));
        records.collect()
    }

    fn record(&self, plan: &Plan, runs: u32) -> Result<Option<Record>, FarmError> {
        let found = self.bridge.wait(self.store.catalog.build(&plan.digest()))?;
        // A record that an older program wrote and this one cannot read is not an error: the plan is built again.
        let Some(record) = found.and_then(|text| serde_json::from_str::<Record>(&text).ok()) else {
            return Ok(None);
        };
        if record.platform.finished.runs.count < runs {
            return Ok(None);
        }
        for descriptor in record.platform.finished.blobs() {
            if self.store.blobs.get(&descriptor.digest)? != Some(descriptor.size) {
                return Ok(None);
            }
        }
        Ok(Some(record))
    }

    /// Fetches, verifies and builds every plan of the order that is not finished yet.
    fn build(&self, order: &Order, trials: &Trials) -> Result<Vec<Record>, FarmError> {
        self.build_each(
            order,
            trials,
            |plan| self.record(plan, trials.count),
            |plan, record, started| self.remember(plan, record, started),
        )
    }

    /// Fetches, verifies and builds every plan for which `found` has no record. Calls `made` for each plan that it
    /// builds.
    fn build_each(
        &self,
        order: &Order,
        trials: &Trials,
        found: impl Fn(&Plan) -> Result<Option<Record>, FarmError>,
        made: impl Fn(&Plan, &Record, i64) -> Result<(), FarmError>,
    ) -> Result<Vec<Record>, FarmError> {
        let _alone = self.build_alone()?;
        let view = BuilderView(self.progress);
        let workshop = Workshop::new(self.data.path(), &self.store.blobs, &view);
        let unpacked = workshop.has_root(&order.text.toolchain, &order.toolchain);
        self.space.check(order, unpacked)?;
        let data = self.data.path();
        let room = Watch::start(data).map_err(FarmError::io(data))?;
        let source = self.orders.verify_source(order)?;
        let inputs = self.orders.verify_inputs(order)?;
        let evidence = source_report(&source, &inputs);
        self.fetch_packages(order)?;
        let root = workshop.root(&order.text.toolchain, &order.toolchain)?;
        let mut records = Vec::new();
        for plan in &order.plans {
            if let Some(record) = found(plan)? {
                records.push(record);
                continue;
            }
            let started = now();
            let given = Inputs {
                plan,
                script: &order.text.script,
                limits: &order.text.recipe.build,
                root: &root,
                source: &source,
                inputs: &inputs,
                trials,
            };
            let finished = workshop.build(&given)?;
            let platform = PlatformReport { platform: plan.platform, plan: plan.digest(), finished };
            let record = Record { source: evidence.clone(), platform };
            made(plan, &record, started)?;
            records.push(record);
        }
        self.space.note(order, unpacked, room.used())?;
        Ok(records)
    }

    fn remember(&self, plan: &Plan, record: &Record, started: i64) -> Result<(), FarmError> {
        let text = serde_json::to_string(record)
            .map_err(|e| FarmError::Io { path: PathBuf::from("the build record"), source: e.into() })?;
        // Store the plan as a document of its own, so that its digest can always be looked up.
        self.store.blobs.put(plan.to_text().as_bytes())?;
        let digest = plan.digest();
        let recorded = self.store.catalog.record_build(&digest, &text, started, now());
        Ok(self.bridge.wait(recorded)?)
    }

    /// Fetches every package of the toolchain's lock, by digest.
    fn fetch_packages(&self, order: &Order) -> Result<(), FarmError> {
        self.progress.stage(&format!("fetch toolchain {}", order.text.toolchain.name));
        let suite = self.debian.suite(&order.text.toolchain.suite)?;
        let packages = order.toolchain.packages.iter().map(|p| (p.path.as_str(), &p.digest, p.size));
        self.fetching.with(|fetcher, _| suite.keep(fetcher, packages))?;
        Ok(())
    }

    /// Waits until no other build runs in this data folder, and locks the folder. The lock ends with the process.
    fn build_alone(&self) -> Result<File, FarmError> {
        let mut waits = false;
        let locked = hab_file::lock(&self.data.work().join("lock"), || {
            if !std::mem::replace(&mut waits, true) {
                self.progress.note("another build uses this data folder; waiting for it to end");
            }
            !self.progress.cancel().load(Ordering::Relaxed)
        });
        Ok(locked?.ok_or(BuildError::Cancelled)?)
    }

    /// Makes the index and publishes everything in one transaction, unless the tag already names this index and no blob
    /// was lost since.
    fn publish(&self, order: &Order, records: &[Record], tag: Tag) -> Result<IndexReport, FarmError> {
        let repository = order.repository();
        let mut manifests = Vec::new();
        let mut listed = Vec::new();
        let mut blobs = Vec::new();
        for Record { platform: PlatformReport { platform, finished, .. }, .. } in records {
            let bytes = self.store.blobs.read(&finished.manifest, MANIFEST)?;
            let bytes = bytes.ok_or_else(|| missing(&finished.manifest))?;
            let mut descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
            descriptor.platform = Some(*platform);
            listed.push(descriptor);
            blobs.extend(finished.image_blobs());
            manifests.push(NewManifest::new(media_type::IMAGE_MANIFEST, bytes));
        }
        let annotations = order.plans.first().map(hab_builder::annotations).unwrap_or_default();
        let (index, descriptor) = hab_image::index(&listed, annotations).map_err(BuildError::from)?;
        let root = descriptor.digest;
        let report =
            IndexReport { repository: repository.to_string(), digest: root.clone(), tags: vec![tag.clone()] };
        let wanted = TagOrDigest::Tag(tag.clone());
        let tagged = self.bridge.wait(self.store.catalog.manifest(&repository, &wanted))?;
        if tagged.as_ref().is_some_and(|found| found.digest == root) && self.holds(&repository, &blobs)? {
            return Ok(report);
        }
        // A build of fewer platforms must not remove the others from a tag. Its own index can be pulled by digest.
        let keeps = tagged.map(|found| self.holds_more(&found.digest, &listed)).transpose()?.unwrap_or(false);
        let tags = if keeps { Vec::new() } else { vec![tag] };
        let report = IndexReport { tags: tags.clone(), ..report };
        manifests.push(NewManifest::new(media_type::IMAGE_INDEX, index));
        let publication =
            Publication { repository, blobs, manifests, tags, root, gaps: Gaps::None, at: now() };
        self.bridge.wait(self.store.publish(publication))?;
        Ok(report)
    }
}

impl Builds<'_> {
    /// Whether a repository has all of these blobs. A blob that a scrub found damaged does not count.
    fn holds(&self, repository: &RepositoryName, blobs: &[Descriptor]) -> Result<bool, FarmError> {
        for blob in blobs {
            let held = self.bridge.wait(self.store.catalog.blob(repository, &blob.digest))?;
            if held != Some(blob.size) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the published index `digest` lists all of `manifests`, and others besides.
    fn holds_more(&self, digest: &Digest, manifests: &[Descriptor]) -> Result<bool, FarmError> {
        // Somebody else may have pushed something that is not an index of ours.
        let bytes = match self.store.blobs.read(digest, MANIFEST) {
            Err(hab_blobs::Error::TooLarge { .. }) => return Ok(false),
            read => read?.unwrap_or_default(),
        };
        let Ok(index) = serde_json::from_slice::<ImageIndex>(&bytes) else { return Ok(false) };
        let has = |wanted: &Descriptor| index.manifests.iter().any(|m| m.digest == wanted.digest);
        Ok(index.manifests.len() > manifests.len() && manifests.iter().all(has))
    }
}

fn source_report(source: &VerifiedSource, inputs: &BTreeMap<String, VerifiedSource>) -> SourceReport {
    SourceReport {
        kind: source.kind(),
        digest: source.digest().clone(),
        revision: source.revision().to_owned(),
        epoch: source.epoch(),
        evidence: source.evidence().clone(),
        inputs: inputs.values().map(|s| s.evidence().clone()).collect(),
    }
}

fn report(
    order: &Order,
    records: Vec<Record>,
    index: IndexReport,
    cached: bool,
    start: Instant,
) -> BuildReport {
    let mut records = records;
    records.sort_by_key(|r| Platform::ALL.iter().position(|p| *p == r.platform.platform));
    // A request names at least one platform, so there is a first record.
    let source = records[0].source.clone();
    let platforms: Vec<_> = records.into_iter().map(|r| r.platform).collect();
    BuildReport {
        recipe: order.text.recipe.name.clone(),
        version: order.version.clone(),
        source,
        lock: order.lock.digest(),
        toolchain: order.toolchain.digest(),
        index,
        runs: RunsReport {
            count: platforms.iter().map(|p| p.finished.runs.count).min().unwrap_or(0),
            identical: platforms.iter().all(|p| p.finished.runs.identical),
        },
        timings: TimingsReport {
            total_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            runs_ms: platforms.iter().map(|p| p.finished.runs.wall_ms.clone()).collect(),
        },
        platforms,
        cached,
    }
}

/// Makes a tag of a version: characters that a tag may not contain (Debian's `+`, `~` and `:`) become `_`.
fn tag_for(version: &str) -> Result<Tag, FarmError> {
    Ok(version.replace(['+', '~', ':'], "_").parse()?)
}

fn missing(digest: &Digest) -> FarmError {
    FarmError::Usage(format!("{digest} was built but is no longer in the store; build it again"))
}
