//! One plan, finished: built twice, compared, checked, made into an image and tried.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hab_keys::VerifiedSource;
use hab_oci::{Descriptor, Digest};
use hab_recipe::{BuildTable, Plan};
use hab_sandbox::{DiskLimiter, MemoryLimiter};
use serde::{Deserialize, Serialize};

use crate::compare::{self, Limits, Node, Relro, Tree};
use crate::run::{Circumstances, Run};
use crate::{BuildError, Workshop};

/// Everything a build is given.
pub struct Inputs<'a> {
    /// What decides the outcome.
    pub plan: &'a Plan,
    /// The build script, whose digest the plan holds.
    pub script: &'a str,
    /// What a run may use.
    pub limits: &'a BuildTable,
    /// The toolchain's root.
    pub root: &'a Path,
    /// The source.
    pub source: &'a VerifiedSource,
    /// The further inputs, by the name of their folder.
    pub inputs: &'a BTreeMap<String, VerifiedSource>,
}

/// What came out of a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finished {
    /// The image manifest's digest.
    pub manifest: Digest,
    /// Its size in bytes.
    pub manifest_size: u64,
    /// The image configuration's digest.
    pub config: Digest,
    /// Its size in bytes.
    pub config_size: u64,
    /// The layers, base first.
    pub layers: Vec<FinishedLayer>,
    /// The files that the script left; agreement is judged on these.
    pub outputs: Tree,
    /// The debug information that was split off: a compressed tar archive beside the image.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub debug: Option<FinishedLayer>,
    /// How it was built.
    pub runs: Runs,
    /// What the finished image did when it was tried.
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
    /// Its media type.
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
    /// How often.
    pub count: u32,
    /// Whether the outputs were the same each time.
    pub identical: bool,
    /// Wall time of each run in milliseconds.
    pub wall_ms: Vec<u64>,
    /// Processor time of each run in milliseconds.
    pub cpu_ms: Vec<u64>,
    /// The most memory that each run was seen to use, in bytes.
    pub peak_memory: Vec<u64>,
    /// What kept the limits of each run.
    #[serde(default)]
    pub limiters: Vec<Limiters>,
    /// What each run printed, as blobs of the store.
    pub logs: Vec<Digest>,
}

/// What kept a run's limits on the machine that it ran on: the kernel, or something weaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limiters {
    /// Of memory.
    pub memory: Option<MemoryLimiter>,
    /// Of disk.
    pub disk: Option<DiskLimiter>,
}

/// Whether the finished image was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Smoke {
    /// It did what the recipe expects; how it was run, and the line that says so.
    Passed {
        /// `natively`, or the emulator's name.
        how: String,
        /// The line of its output that was expected.
        line: String,
    },
    /// It was not run here, and why.
    NotRun(String),
}

impl std::fmt::Display for Smoke {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed { how, line } => write!(f, "runs ({how}): {line}"),
            Self::NotRun(why) => write!(f, "not run here: {why}"),
        }
    }
}

impl Finished {
    /// Every blob that must still be there for this to be an answer.
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

impl Workshop<'_> {
    /// Runs the plan twice with what must not matter changed, compares, checks, assembles and tries the image. Blobs
    /// are in the store when this returns; nothing refers to them before the caller publishes. The work folder is
    /// removed, except where it is needed to see why it failed.
    pub fn build(&self, given: &Inputs<'_>) -> Result<Finished, BuildError> {
        let plan = given.plan;
        let scratch = self.scratch(&format!("{}-{}", plan.recipe, plan.digest().short()))?;
        let result = self.build_in(given, &scratch);
        match &result {
            // These errors name files in the folder.
            Err(
                BuildError::Script { .. } | BuildError::NoOutput { .. } | BuildError::NotReproducible { .. },
            ) => {}
            _ => hab_tree::remove(&scratch).map_err(BuildError::io(&scratch))?,
        }
        result
    }

    fn build_in(&self, given: &Inputs<'_>, scratch: &Path) -> Result<Finished, BuildError> {
        let [first, second] = Circumstances::both();
        let first = self.run(given, scratch, first)?;
        let second = self.run(given, scratch, second)?;
        self.observer.stage("compare the two runs");
        let outputs = agreed(given.plan, scratch, "out", [&first, &second])?;
        if outputs.is_empty() {
            return Err(BuildError::NoOutput {
                recipe: given.plan.recipe.to_string(),
                platform: given.plan.platform,
                log: first.log_path,
            });
        }
        agreed(given.plan, scratch, "debug", [&first, &second])?;
        if given.limits.hardened {
            hardened(given.plan, &outputs, &first.out())?;
        }

        let image = self.assemble(given, &first)?;
        let root = self.unpack_image(given.plan, &image.layers, scratch)?;
        let missing = compare::missing_libraries(&root)?;
        if !missing.is_empty() {
            return Err(BuildError::missing_libraries(&given.plan.recipe, given.plan.platform, &missing));
        }
        let smoke = self.smoke(given.plan, &root)?;
        let runs = [&first, &second];
        Ok(Finished {
            manifest: image.manifest.digest,
            manifest_size: image.manifest.size,
            config: image.config.digest,
            config_size: image.config.size,
            layers: image.layers,
            outputs,
            debug: image.debug,
            runs: Runs {
                count: 2,
                identical: true,
                wall_ms: runs.map(|r| millis(r.report.wall)).into(),
                cpu_ms: runs.map(|r| millis(r.report.cpu_user + r.report.cpu_system)).into(),
                peak_memory: runs.map(|r| r.report.peak_memory).into(),
                limiters: runs
                    .map(|r| Limiters { memory: r.report.memory_limiter, disk: r.report.disk_limiter })
                    .into(),
                logs: runs.map(|r: &Run| r.log.clone()).into(),
            },
            smoke,
        })
    }
}

/// Every program and library of the outputs must have what its recipe's flags ask for: flags are easily lost on their
/// way through a build system.
fn hardened(plan: &Plan, outputs: &Tree, folder: &Path) -> Result<(), BuildError> {
    for entry in outputs.entries() {
        let Node::File { .. } = entry.node else { continue };
        let Some(found) = compare::hardening(&folder.join(&entry.path))? else { continue };
        let lacks: Vec<_> = [
            (found.pie, "position independence"),
            (found.relro == Relro::Full, "full RELRO"),
            (found.nx, "a stack that is not executable"),
            (found.stack_canary, "stack canaries"),
        ]
        .into_iter()
        .filter_map(|(has, what)| (!has).then_some(what))
        .collect();
        if !lacks.is_empty() {
            return Err(BuildError::NotHardened {
                recipe: plan.recipe.to_string(),
                platform: plan.platform,
                path: entry.path.clone(),
                lacks: lacks.join(", "),
            });
        }
    }
    Ok(())
}

/// The tree that the folder `name` of both runs holds, or where they first differ; then both are kept below `scratch`,
/// since a volume goes with its run.
fn agreed(plan: &Plan, scratch: &Path, name: &str, runs: [&Run; 2]) -> Result<Tree, BuildError> {
    let limits = Limits::default();
    let [first, second] = runs.map(|run| run.volume.path().join(name));
    let (a, b) = (Tree::scan(&first, &limits)?, Tree::scan(&second, &limits)?);
    let Err(difference) = compare::compare(&a, &b) else { return Ok(a) };
    let keep = |run: &Run, from: &Path| {
        // A plain folder stays as it is.
        if run.volume.limiter() == DiskLimiter::Counted {
            return Ok(from.to_owned());
        }
        let above = scratch.join("kept").join(run.name);
        fs::create_dir_all(&above).map_err(BuildError::io(&above))?;
        let to = above.join(name);
        let folder = fs::File::open(from).map_err(BuildError::io(from))?;
        hab_tree::copy(folder, &to, limits.bytes).map_err(BuildError::io(&to))?;
        Ok::<_, BuildError>(to)
    };
    Err(BuildError::NotReproducible {
        recipe: plan.recipe.to_string(),
        platform: plan.platform,
        difference: difference.to_string(),
        differing: compare::differences(&a, &b).len(),
        entries: a.entries().len().max(b.entries().len()),
        first: keep(runs[0], &first)?,
        second: keep(runs[1], &second)?,
    })
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
