//! One run of one plan: a fresh work folder, the script in the sandbox, its log and its outputs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use hab_keys::{SourceFile, VerifiedSource};
use hab_oci::{Digest, shown};
use hab_sandbox::{Bind, NOT_STARTED, Outcome, Report, RunLimits, Spec, Varied, Vary, Volume};

use crate::cause::{Cause, Met};
use crate::check::Clock;
use crate::log::Log;
use crate::unpack::{self, Options, UnpackError};
use crate::{BuildError, FailedScript, Inputs, Trials, Workshop};

/// The folders in `/build` at the start.
const FOLDERS: [&str; 7] = ["src", "out", "debug", "work", "home", "inputs", "recipe"];
/// How much a script may print, in bytes.
const LOG: u64 = 512 << 20;

/// Options by which GCC, Clang and rustc compile for the processor that they run on. Two runs on one machine would not
/// show the difference.
const NATIVE: [&str; 9] = [
    "-march=native",
    "-mcpu=native",
    "-mtune=native",
    "target-cpu=native",
    "target_cpu=native",
    "-Ctarget-cpu=native",
    "-Ctarget_cpu=native",
    "--codegen=target-cpu=native",
    "--codegen=target_cpu=native",
];

/// The circumstances of one of a plan's runs.
#[derive(Clone, Debug)]
pub(crate) struct Circumstances {
    /// The run's number, from 0.
    number: u32,
    /// The run's name for people, which is also its folder's.
    pub name: String,
    /// The factors that are changed, compared with the first run, because they must not matter.
    pub varied: Varied,
}

impl Circumstances {
    /// The circumstances of the first run, and of those that must leave the same files.
    pub(crate) fn of(trials: &Trials) -> (Self, impl Iterator<Item = Self>) {
        let first = Self { number: 0, name: "first".to_owned(), varied: Varied::default() };
        let others = (1..trials.count.max(2)).map(|number| Self {
            number,
            name: match number {
                1 => "second".to_owned(),
                2 => "third".to_owned(),
                _ => format!("{}th", number + 1),
            },
            varied: trials.varied.clone(),
        });
        (first, others)
    }

    /// The number of jobs at a time.
    fn jobs(&self) -> usize {
        let here = std::thread::available_parallelism().map_or(1, usize::from);
        here + usize::from(self.varied.has(Vary::Hardware))
    }

    /// The option for the order in which make starts jobs that could start at once. make 4.4 and later pass it on to
    /// each make that they start; earlier ones ignore it.
    fn shuffle(&self) -> Option<String> {
        match self.number {
            number if number == 0 || !self.varied.has(Vary::Schedule) => None,
            1 => Some("--shuffle=reverse".to_owned()),
            seed => Some(format!("--shuffle={seed}")),
        }
    }
}

/// The result of a run.
pub(crate) struct Run {
    /// The run's name.
    pub name: String,
    /// The volume that was `/build`.
    pub volume: Volume,
    /// The script's log, a blob of the store.
    pub log: Digest,
    /// The path of the same log in the work folder.
    pub log_path: PathBuf,
    /// How the run ended, and what it used.
    pub report: Report,
}

impl Workshop<'_> {
    /// Runs the script once, in `scratch`.
    pub(crate) fn run(
        &self,
        given: &Inputs<'_>,
        scratch: &Path,
        how: &Circumstances,
    ) -> Result<Run, BuildError> {
        let plan = given.plan;
        self.observer.stage(&format!(
            "build {} {} for {}, {} run",
            plan.recipe, plan.version, plan.platform, how.name
        ));
        let limits = limits(given);
        let place = scratch.join(&how.name);
        let volume = Volume::make(&self.launcher, &place, &limits).map_err(BuildError::io(&place))?;
        self.prepare(given, &volume)?;
        let spec = spec(given, volume.path(), how, limits);
        let log_path = scratch.join(format!("{}.log", how.name));
        let mut log = Log::create(&log_path)?;
        let mut output = |_, bytes: &[u8]| log.add(bytes, &mut |line| self.observer.line(line));
        let report =
            hab_sandbox::run_on(&self.launcher, &spec, &[&volume], &mut output, self.observer.cancel())?;
        let (tail, met) = log.finish()?;
        // The folder is ours, whatever mode the script gave it; the folders in it are read by their owner.
        let folder = volume.path();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(BuildError::io(folder))?;
        match report.outcome {
            Outcome::Exited(0) => {}
            Outcome::Cancelled => return Err(BuildError::Cancelled),
            outcome => {
                return Err(BuildError::Script(Box::new(FailedScript {
                    recipe: plan.recipe.to_string(),
                    platform: plan.platform,
                    run: how.name.clone(),
                    outcome,
                    cause: cause(given, &report, &tail, met),
                    tail,
                    log: log_path,
                })));
            }
        }
        let mut writer = self.blobs.writer()?;
        let mut file = File::open(&log_path).map_err(BuildError::io(&log_path))?;
        std::io::copy(&mut file, &mut writer).map_err(BuildError::io(&log_path))?;
        let (digest, _) = writer.commit(None)?;
        Ok(Run { name: how.name.clone(), volume, log: digest, log_path, report })
    }

    fn prepare(&self, given: &Inputs<'_>, volume: &Volume) -> Result<(), BuildError> {
        let folder = volume.path();
        for name in FOLDERS {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(BuildError::io(&path))?;
        }
        let mut room = Room { given, left: given.limits.disk_mib << 20 };
        self.unpack_source(given.source, &folder.join("src"), &mut room)?;
        for (name, source) in given.inputs {
            self.unpack_source(source, &folder.join("inputs").join(name), &mut room)?;
        }
        let script = folder.join("recipe/build.sh");
        fs::write(&script, given.script).map_err(BuildError::io(&script))?;
        give_away(volume)?;
        // The first files have the date of the source, not of this run, and modes that do not depend on the caller's
        // umask.
        let epoch = Duration::from_secs(u64::try_from(given.source.epoch()).unwrap_or(0));
        let times = UNIX_EPOCH + epoch;
        let times = fs::FileTimes::new().set_accessed(times).set_modified(times);
        let ours = FOLDERS.iter().map(|name| folder.join(name));
        let with_modes = ours.map(|path| (path, 0o755)).chain([(script, 0o644), (folder.to_owned(), 0o755)]);
        for (path, mode) in with_modes {
            let set = |file: File| {
                file.set_permissions(fs::Permissions::from_mode(mode)).and_then(|()| file.set_times(times))
            };
            File::open(&path).and_then(set).map_err(BuildError::io(&path))?;
        }
        Ok(())
    }

    fn unpack_source(
        &self,
        source: &VerifiedSource,
        into: &Path,
        room: &mut Room<'_>,
    ) -> Result<(), BuildError> {
        for SourceFile { name, digest, unpack, .. } in source.files() {
            let Some(rule) = unpack else { continue };
            let archive = self.verified(name, digest)?;
            let mut options = Options {
                strip_components: rule.strip as usize,
                epoch: source.epoch(),
                until: Some(Clock::start(room.given).until),
                ..Options::default()
            };
            options.limits.disk = room.left;
            let into = into.join(&rule.into);
            let unpacked = unpack::unpack_archive(name, &archive, &into, &options, self.observer.cancel());
            let summary = unpacked.map_err(|e| match e {
                UnpackError::TooMuchDisk { archive, .. } => room.full(&archive),
                e => e.into(),
            })?;
            room.left = room.left.saturating_sub(summary.disk);
        }
        Ok(())
    }
}

/// Why the script failed, if more is known than its last lines.
fn cause(given: &Inputs<'_>, report: &Report, tail: &str, met: Option<Met>) -> Option<Cause> {
    let by_itself = matches!(report.outcome, Outcome::Exited(_) | Outcome::Signaled(_));
    // A program that was refused earlier did not end the script, which went on without it.
    let native =
        || tail.contains(NOT_STARTED).then(|| report.refused.last().cloned().map(Cause::Native)).flatten();
    by_itself.then(|| native().or_else(|| met.map(|met| met.cause(given.limits)))).flatten()
}

/// The recipe's disk space that a run's source and inputs have left.
struct Room<'a> {
    given: &'a Inputs<'a>,
    left: u64,
}

impl Room<'_> {
    fn full(&self, what: &str) -> BuildError {
        BuildError::SourceTooLarge {
            recipe: self.given.plan.recipe.to_string(),
            limit: self.given.limits.disk_mib,
            what: shown(what).to_string(),
        }
    }
}

fn limits(given: &Inputs<'_>) -> RunLimits {
    let limits = given.limits;
    RunLimits {
        memory: Some(limits.memory_mib << 20),
        processes: Some(2048),
        wall: Some(Duration::from_mins(limits.minutes)),
        disk: Some(limits.disk_mib << 20),
        log: Some(LOG.min(limits.disk_mib << 20)),
        file_size: Some(limits.disk_mib << 20),
        ..RunLimits::default()
    }
}

fn spec(given: &Inputs<'_>, folder: &Path, how: &Circumstances, limits: RunLimits) -> Spec {
    let numbers = how.varied.has(Vary::Numbers);
    Spec {
        env: environment(given, how),
        cwd: "/build".into(),
        binds: vec![Bind { host: folder.to_owned(), inside: "/build".into(), writable: true }],
        umask: if how.varied.has(Vary::Umask) { 0o027 } else { 0o022 },
        refused: NATIVE.map(str::to_owned).into(),
        preload: true,
        processors: u32::try_from(how.jobs()).unwrap_or(u32::MAX).clamp(1, Spec::MOST_PROCESSORS),
        varied: how.varied.clone(),
        limits,
        ..Spec::new(
            if numbers { given.root.second() } else { given.root.first() },
            ["bash", "/build/recipe/build.sh"],
        )
    }
}

/// The environment of every build.sh; docs/RECIPES.md describes this contract.
fn environment(given: &Inputs<'_>, how: &Circumstances) -> BTreeMap<String, String> {
    let plan = given.plan;
    let triplet = plan.triplet();
    let tool = |name: &str| format!("{triplet}-{name}");
    let source = match &plan.subfolder {
        Some(subfolder) => format!("/build/src/{subfolder}"),
        None => "/build/src".to_owned(),
    };
    let fixed = [
        ("SRC", source),
        ("OUT", "/build/out".to_owned()),
        ("DEBUG", "/build/debug".to_owned()),
        ("WORK", "/build/work".to_owned()),
        ("HOME", "/build/home".to_owned()),
        ("JOBS", how.jobs().to_string()),
        ("VERSION", plan.version.clone()),
        ("PLATFORM", plan.platform.to_string()),
        ("ARCH", plan.platform.architecture().to_owned()),
        ("SYSROOT", plan.sysroot()),
        ("CC", tool("gcc")),
        ("CXX", tool("g++")),
        ("AR", tool("ar")),
        ("RANLIB", tool("ranlib")),
        ("NM", tool("nm")),
        ("STRIP", tool("strip")),
        ("OBJCOPY", tool("objcopy")),
        ("TRIPLET", triplet),
        ("SOURCE_DATE_EPOCH", plan.source.epoch.to_string()),
    ];
    let fixed = fixed.map(|(name, value)| (name.to_owned(), value));
    let mut all: BTreeMap<_, _> = plan.env.clone().into_iter().chain(fixed).collect();
    if let Some(option) = how.shuffle() {
        let flags: &mut String = all.entry("MAKEFLAGS".to_owned()).or_default();
        // The option comes after the recipe's flags, because only the first word of MAKEFLAGS may lack a dash.
        flags.push_str(if flags.is_empty() { "" } else { " " });
        flags.push_str(&option);
    }
    all
}

/// Makes the sandbox's user the owner of everything in the volume.
fn give_away(volume: &Volume) -> Result<(), BuildError> {
    let path = volume.path();
    if let Some((uid, gid)) = hab_sandbox::owner() {
        hab_tree::give_away(volume, uid, gid).map_err(BuildError::io(path))?;
    }
    Ok(())
}
