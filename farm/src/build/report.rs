//! The result of a build: what the program prints, and what the catalog remembers.

use hab_builder::Finished;
use hab_keys::{Evidence, SourceKind};
use hab_oci::{Digest, Platform, Tag};
use hab_recipe::RecipeName;
use serde::{Deserialize, Serialize};

/// The document that `hab-build build --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct BuildReport {
    /// The recipe.
    pub recipe: RecipeName,
    /// The version that was built.
    pub version: String,
    /// The source that it was built from.
    pub source: SourceReport,
    /// The digest of the recipe's lock.
    pub lock: Digest,
    /// The digest of the toolchain's lock.
    pub toolchain: Digest,
    /// The image index.
    pub index: IndexReport,
    /// One report for each platform, in the order of the index.
    pub platforms: Vec<PlatformReport>,
    /// How often each platform was built, and whether the outputs were the same each time.
    pub runs: RunsReport,
    /// Whether earlier builds already had the result for every platform.
    pub cached: bool,
    /// How long this command took.
    pub timings: TimingsReport,
}

/// The document that `hab-build build --vary … --json` prints: the results of runs that publish nothing.
#[derive(Clone, Debug, Serialize)]
pub struct ExperimentReport {
    /// The recipe.
    pub recipe: RecipeName,
    /// The version that was built.
    pub version: String,
    /// One report for each platform.
    pub platforms: Vec<PlatformReport>,
}

/// The source of a build, and why it was accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceReport {
    /// The kind of source.
    pub kind: SourceKind,
    /// The digest that identifies it.
    pub digest: Digest,
    /// The upstream's own name for exactly this state.
    pub revision: String,
    /// The source's date, in seconds since 1970.
    pub epoch: i64,
    /// Why it was accepted.
    pub evidence: Evidence,
    /// Why the other inputs were accepted.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub inputs: Vec<Evidence>,
}

/// The published index, and its repository.
#[derive(Clone, Debug, Serialize)]
pub struct IndexReport {
    /// The repository in which it was published.
    pub repository: String,
    /// The index's digest.
    pub digest: Digest,
    /// The tags that name it.
    pub tags: Vec<Tag>,
}

/// The result of one platform's build, which the catalog keeps for its plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlatformReport {
    /// The platform.
    pub platform: Platform,
    /// The plan's digest.
    pub plan: Digest,
    /// The finished build.
    #[serde(flatten)]
    pub finished: Finished,
}

/// The catalog's record of a finished plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub source: SourceReport,
    pub platform: PlatformReport,
}

/// How often each plan ran, and whether the outputs were the same.
#[derive(Clone, Debug, Serialize)]
pub struct RunsReport {
    /// The number of runs of each plan.
    pub count: u32,
    /// Whether all runs of each plan had the same outputs. A build whose runs differ ends in an error instead.
    pub identical: bool,
}

/// Durations in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct TimingsReport {
    /// From the request to the published image.
    pub total_ms: u64,
    /// The duration of each run when the plan was executed, by platform.
    pub runs_ms: Vec<Vec<u64>>,
}
