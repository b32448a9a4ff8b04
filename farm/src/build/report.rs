//! What a build prints and what the catalog remembers of it.

use hab_builder::Finished;
use hab_keys::{Evidence, SourceKind};
use hab_oci::{Digest, Platform, Tag};
use hab_recipe::RecipeName;
use serde::{Deserialize, Serialize};

/// `hab-build build --json`.
#[derive(Clone, Debug, Serialize)]
pub struct BuildReport {
    /// The recipe.
    pub recipe: RecipeName,
    /// The version that was built.
    pub version: String,
    /// What it was built from.
    pub source: SourceReport,
    /// The digest of the recipe's lock.
    pub lock: Digest,
    /// The digest of the toolchain's lock.
    pub toolchain: Digest,
    /// The image index.
    pub index: IndexReport,
    /// One a platform, in the order of the index.
    pub platforms: Vec<PlatformReport>,
    /// How often each platform was built, and whether the outputs were the same each time.
    pub runs: RunsReport,
    /// Whether every platform was answered from an earlier build.
    pub cached: bool,
    /// How long this command took.
    pub timings: TimingsReport,
}

/// `hab-build build --vary … --json`: what runs that published nothing came to.
#[derive(Clone, Debug, Serialize)]
pub struct ExperimentReport {
    /// The recipe.
    pub recipe: RecipeName,
    /// The version that was built.
    pub version: String,
    /// One a platform.
    pub platforms: Vec<PlatformReport>,
}

/// What was built, and why it was accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceReport {
    /// Where it comes from.
    pub kind: SourceKind,
    /// Its identity.
    pub digest: Digest,
    /// The upstream's own name for exactly this state.
    pub revision: String,
    /// The source's date, in seconds since 1970.
    pub epoch: i64,
    /// Why it was accepted.
    pub evidence: Evidence,
    /// Why the further inputs were accepted.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub inputs: Vec<Evidence>,
}

/// Where the image is.
#[derive(Clone, Debug, Serialize)]
pub struct IndexReport {
    /// The repository it was published in.
    pub repository: String,
    /// The index's digest.
    pub digest: Digest,
    /// The tags that name it.
    pub tags: Vec<Tag>,
}

/// One platform's build: what the catalog keeps for a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlatformReport {
    /// For which platform.
    pub platform: Platform,
    /// The plan's digest.
    pub plan: Digest,
    /// What came out.
    #[serde(flatten)]
    pub finished: Finished,
}

/// The catalog's record of a finished plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub source: SourceReport,
    pub platform: PlatformReport,
}

/// How often, and the same?
#[derive(Clone, Debug, Serialize)]
pub struct RunsReport {
    /// Runs of each plan.
    pub count: u32,
    /// Whether all runs of each plan had the same outputs; a build where they had not ends in an error.
    pub identical: bool,
}

/// In milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct TimingsReport {
    /// From the start of the program.
    pub total_ms: u64,
    /// Each build run that was made when the plan was executed, in the order of the platforms.
    pub runs_ms: Vec<Vec<u64>>,
}
