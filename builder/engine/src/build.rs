//! Finishes one plan: builds it twice, compares, checks, makes an image and tries the image.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hab_keys::VerifiedSource;
use hab_oci::{Descriptor, Digest, shown};
use hab_recipe::{BuildTable, Plan};
use hab_sandbox::{DiskLimiter, MemoryLimiter, Varied, Vary};
use serde::{Deserialize, Serialize};

use crate::check::{Check, Clock};
use crate::compare::Tree;
use crate::run::{Circumstances, Run};
use crate::{BuildError, Root, Workshop};

/// Everything that a build needs.
pub struct Inputs<'a> {
    /// The plan, which decides the outcome.
    pub plan: &'a Plan,
    /// The build script, whose digest the plan holds.
    pub script: &'a str,
    /// The resources that a run may use.
    pub limits: &'a BuildTable,
    /// The toolchain's root.
    pub root: &'a Root,
    /// The source.
    pub source: &'a VerifiedSource,
    /// The further inputs, by the name of their folder.
    pub inputs: &'a BTreeMap<String, VerifiedSource>,
    /// How often the plan is run, and what is changed between runs.
    pub trials: &'a Trials,
}

/// How often a plan is run, and which factors are changed in every run but the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trials {
    /// The number of runs, at least two.
    pub count: u32,
    /// The factors that are changed.
    pub varied: Varied,
}

impl Trials {
    /// The most runs of one plan.
    pub const MOST: u32 = 100;
}

impl Default for Trials {
    /// Two runs, with every factor changed.
    fn default() -> Self {
        Self { count: 2, varied: Varied::all() }
    }
}

/// The result of a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finished {
    /// The image manifest's digest.
    pub manifest: Digest,
    /// The manifest's size in bytes.
    pub manifest_size: u64,
    /// The image configuration's digest.
    pub config: Digest,
    /// The configuration's size in bytes.
    pub config_size: u64,
    /// The layers, base first.
    pub layers: Vec<FinishedLayer>,
    /// The files that the script left; agreement is judged on these.
    pub outputs: Tree,
    /// The debug information that was split off: a compressed tar archive beside the image.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub debug: Option<FinishedLayer>,
    /// The runs, and how they went.
    pub runs: Runs,
    /// The result of trying the finished image.
    pub smoke: Smoke,
}

/// A layer of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedLayer {
    /// The compressed bytes' digest.
    pub digest: Digest,
    /// The tar archive's digest.
    #[serde(rename = "diffID")]
    pub diff_id: Digest,
    /// The compressed size in bytes.
    pub size: u64,
    /// The layer's media type.
    #[serde(rename = "mediaType")]
    pub media_type: String,
}

impl FinishedLayer {
    fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size: self.size,
            platform: None,
        }
    }
}

/// How often a plan was run, and with what result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Runs {
    /// How often the plan was run.
    pub count: u32,
    /// Whether the outputs were the same each time.
    pub identical: bool,
    /// Wall time of each run in milliseconds.
    pub wall_ms: Vec<u64>,
    /// Processor time of each run in milliseconds.
    pub cpu_ms: Vec<u64>,
    /// The most memory that each run was seen to use, in bytes.
    pub peak_memory: Vec<u64>,
    /// The factors that were changed in the runs after the first, as far as this machine and the toolchain's C library
    /// allow it. [`Vary::Schedule`] was passed to make, which may be too old to know it.
    #[serde(default)]
    pub varied: Varied,
    /// The mechanisms that kept the limits of each run.
    #[serde(default)]
    pub limiters: Vec<Limiters>,
    /// The log of each run, a blob of the store.
    pub logs: Vec<Digest>,
}

/// The mechanisms that kept a run's limits on the machine that it ran on: the kernel, or something weaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limiters {
    /// The limiter of memory.
    pub memory: Option<MemoryLimiter>,
    /// The limiter of disk.
    pub disk: Option<DiskLimiter>,
}

/// The result of trying the finished image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Smoke {
    /// The image printed what the recipe expects.
    Passed {
        /// `natively`, or the emulator's name.
        how: String,
        /// The line of its output that has the expected text.
        line: String,
    },
    /// The image was not run here, for this reason.
    NotRun(String),
}

impl std::fmt::Display for Smoke {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed { how, line } => write!(f, "runs ({how}): {}", shown(line)),
            Self::NotRun(why) => write!(f, "not run here: {why}"),
        }
    }
}

impl Finished {
    /// Every blob that must still be in the store for this result to be usable.
    pub fn blobs(&self) -> Vec<Descriptor> {
        use hab_oci::media_type::IMAGE_MANIFEST;
        let mut all = self.image_blobs();
        all.extend(self.debug.iter().map(FinishedLayer::descriptor));
        let manifest = (self.manifest.clone(), self.manifest_size);
        all.push(Descriptor {
            media_type: IMAGE_MANIFEST.to_owned(),
            digest: manifest.0,
            size: manifest.1,
            platform: None,
        });
        all
    }

    /// The blobs that the image's manifest points at.
    pub fn image_blobs(&self) -> Vec<Descriptor> {
        use hab_oci::media_type::IMAGE_CONFIG;
        let mut all: Vec<_> = self.layers.iter().map(FinishedLayer::descriptor).collect();
        let (digest, size) = (self.config.clone(), self.config_size);
        all.push(Descriptor { media_type: IMAGE_CONFIG.to_owned(), digest, size, platform: None });
        all
    }
}

/// The least time between the beginnings of the first two runs, because zip archives have times of every other second.
const APART: Duration = Duration::from_secs(2);

impl Workshop<'_> {
    /// Runs the plan as often as the trials say, with their factors changed. Then compares, checks, assembles and tries
    /// the image. Its blobs are in the store when this returns; nothing refers to them before the caller publishes. The
    /// work folder is removed, unless a person needs it to see why the build failed.
    pub fn build(&self, given: &Inputs<'_>) -> Result<Finished, BuildError> {
        let plan = given.plan;
        let scratch = self.scratch(&format!("{}-{}", plan.recipe, plan.digest().short()))?;
        let result = self.build_in(given, &scratch);
        match &result {
            // These errors name files in the folder.
            Err(BuildError::Script(_) | BuildError::NoOutput { .. } | BuildError::NotReproducible { .. }) => {
            }
            _ => hab_tree::remove(&scratch).map_err(BuildError::io(&scratch))?,
        }
        result
    }

    fn wait_until(&self, time: Instant) -> Result<(), BuildError> {
        while Instant::now() < time {
            if self.observer.cancel().load(Ordering::Relaxed) {
                return Err(BuildError::Cancelled);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn build_in(&self, given: &Inputs<'_>, scratch: &Path) -> Result<Finished, BuildError> {
        let (first, others) = Circumstances::of(given.trials);
        let begun = Instant::now();
        let first = self.run(given, scratch, &first)?;
        let mut runs = Runs::of(&first, given.trials);
        self.wait_until(begun + APART)?;
        let disk = given.limits.disk_mib << 20;
        let mut agreed = None;
        for other in others {
            let other = self.run(given, scratch, &other)?;
            self.observer.stage(&format!("compare the {} run with the {} one", other.name, first.name));
            // A clock for each comparison, since each may take as long as a run.
            let check = Check { workshop: self, given, scratch, clock: Clock::start(given) };
            let outputs = check.agreed([&first, &other], "out", disk)?;
            let debug = check.agreed([&first, &other], "debug", disk.saturating_sub(outputs.size()))?;
            runs.add(&other);
            // The run's files are removed here, so that many runs need no more disk than two.
            agreed = Some((check, outputs, debug));
        }
        // There is at least one other run, so this is always set.
        let Some((check, outputs, debug)) = agreed else { return Err(BuildError::Cancelled) };
        if outputs.is_empty() {
            return Err(BuildError::NoOutput {
                recipe: given.plan.recipe.to_string(),
                platform: given.plan.platform,
                log: first.log_path,
            });
        }
        if given.limits.hardened {
            check.hardened(&first)?;
        }

        // A process that broke out of a run may have written to the root, and the image takes files from it.
        given.root.still_the_same(self.observer)?;
        let image = self.assemble(given, &outputs, &debug, &check.clock)?;
        let root = self.unpack_image(given, &image.layers, scratch, &check.clock)?;
        let missing = check.missing(&root)?;
        if missing.total > 0 {
            return Err(BuildError::missing_libraries(&given.plan.recipe, given.plan.platform, &missing));
        }
        let smoke = self.smoke(given, &root, &check.clock)?;
        Ok(Finished {
            manifest: image.manifest.digest,
            manifest_size: image.manifest.size,
            config: image.config.digest,
            config_size: image.config.size,
            layers: image.layers,
            outputs,
            debug: image.debug,
            runs,
            smoke,
        })
    }
}

impl Runs {
    fn of(first: &Run, trials: &Trials) -> Self {
        let mut varied = trials.varied.clone();
        if !first.report.preloaded {
            varied = varied.without(Vary::Date);
        }
        let mut runs = Self {
            count: 0,
            identical: true,
            varied,
            wall_ms: Vec::new(),
            cpu_ms: Vec::new(),
            peak_memory: Vec::new(),
            limiters: Vec::new(),
            logs: Vec::new(),
        };
        runs.add(first);
        runs
    }

    fn add(&mut self, run: &Run) {
        let report = &run.report;
        self.count += 1;
        self.wall_ms.push(millis(report.wall));
        self.cpu_ms.push(millis(report.cpu_user + report.cpu_system));
        self.peak_memory.push(report.peak_memory);
        self.limiters.push(Limiters { memory: report.memory_limiter, disk: report.disk_limiter });
        self.logs.push(run.log.clone());
        if self.count > 1 && !report.clock_shifted {
            self.varied = std::mem::take(&mut self.varied).without(Vary::Uptime);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
