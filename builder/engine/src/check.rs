//! Asks what is in a build's outputs; this is the outer side of `crate::worker`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hab_oci::Platform;
use hab_sandbox::{Bind, DiskLimiter, Limit, Outcome, Spec, Stream, Volume};

use crate::compare::{self, Difference, Folder, Lacking, Tree, TreeLimits, What};
use crate::run::Run;
use crate::worker::{FIRST, IMAGE, Question, Request, SECOND, WorkerReply};
use crate::{BuildError, Inputs, Workshop};

/// The most bytes of an answer: a record of as many files as [`TreeLimits`] allows.
const ANSWER: u64 = 64 << 20;
/// The most memory for reading outputs, in bytes, whatever a recipe may use.
const MEMORY: u64 = 1 << 30;

/// The time for everything that comes after the runs: comparing, packing, unpacking and trying. It is as long as a
/// run's.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    pub(crate) until: Instant,
    minutes: u64,
    recipe: String,
    platform: Platform,
}

impl Clock {
    pub(crate) fn start(given: &Inputs<'_>) -> Self {
        let minutes = given.limits.minutes;
        Self {
            until: Instant::now() + Duration::from_mins(minutes.min(60 * 24 * 365)),
            minutes,
            recipe: given.plan.recipe.to_string(),
            platform: given.plan.platform,
        }
    }

    #[cfg(test)]
    pub(crate) fn of(minutes: u64) -> Self {
        Self {
            until: Instant::now() + Duration::from_mins(minutes),
            minutes,
            recipe: "x".to_owned(),
            platform: Platform::LinuxAmd64,
        }
    }

    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// The error for work that did not end in time.
    pub(crate) fn over(&self) -> BuildError {
        BuildError::Overtime { recipe: self.recipe.clone(), platform: self.platform, minutes: self.minutes }
    }
}

/// What the worker is shown.
#[derive(Clone, Copy)]
enum Shown<'a> {
    /// Everything that a run left.
    Left(&'a Run),
    Folder(&'a Path),
}

impl<'a> Shown<'a> {
    fn path(self) -> &'a Path {
        match self {
            Self::Left(run) => run.volume.path(),
            Self::Folder(path) => path,
        }
    }

    fn volume(self) -> Option<&'a Volume> {
        match self {
            Self::Left(run) => Some(&run.volume),
            Self::Folder(_) => None,
        }
    }
}

/// Asks about one build's outputs.
pub(crate) struct Check<'a> {
    pub(crate) workshop: &'a Workshop<'a>,
    pub(crate) given: &'a Inputs<'a>,
    pub(crate) scratch: &'a Path,
    pub(crate) clock: Clock,
}

impl Check<'_> {
    /// The record of what both runs left in their folder `name`; fails if they left different files.
    pub(crate) fn agreed(&self, runs: [&Run; 2], name: &str, bytes: u64) -> Result<Tree, BuildError> {
        let limits = TreeLimits { bytes, ..TreeLimits::default() };
        let first = self.record(runs[0], name, limits)?;
        let second = self.record(runs[1], name, limits)?;
        let Err(difference) = compare::compare(&first, &second) else { return Ok(first) };
        let difference = self.located(runs, name, difference)?;
        Err(BuildError::NotReproducible {
            recipe: self.given.plan.recipe.to_string(),
            platform: self.given.plan.platform,
            difference: difference.to_string(),
            differing: compare::differing(&first, &second),
            entries: first.entries().len().max(second.entries().len()),
            first: self.kept(runs[0], name, bytes)?,
            second: self.kept(runs[1], name, bytes)?,
        })
    }

    /// The path at which a person finds what a run left. A volume ends with its run, so a copy of it is kept below the
    /// scratch folder.
    fn kept(&self, run: &Run, name: &str, bytes: u64) -> Result<PathBuf, BuildError> {
        let from = run.volume.path().join(name);
        if run.volume.limiter() == DiskLimiter::Counted {
            return Ok(from);
        }
        let above = self.scratch.join("kept").join(&run.name);
        fs::create_dir_all(&above).map_err(BuildError::io(&above))?;
        let to = above.join(name);
        let folder = fs::File::open(&from).map_err(BuildError::io(&from))?;
        hab_tree::copy(folder, &to, bytes).map_err(BuildError::io(&to))?;
        Ok(to)
    }

    fn record(&self, run: &Run, name: &str, limits: TreeLimits) -> Result<Tree, BuildError> {
        let question = Question::Record { folder: name.to_owned(), limits };
        match self.ask(question, name, &[(Shown::Left(run), FIRST)])? {
            // Packing reads the files themselves again, and checks each against this record.
            WorkerReply::Record(tree) => {
                let folder = Folder::open(&run.volume.path().join(name));
                Ok(tree.within(folder.map_err(|e| self.refused(name, &[e.to_string()]))?))
            }
            _ => Err(self.strange()),
        }
    }

    fn located(
        &self,
        runs: [&Run; 2],
        name: &str,
        mut difference: Difference,
    ) -> Result<Difference, BuildError> {
        if let What::Content(place) = &mut difference.what {
            let question = Question::Locate { folder: name.to_owned(), path: difference.path.clone() };
            let binds = [(Shown::Left(runs[0]), FIRST), (Shown::Left(runs[1]), SECOND)];
            *place = match self.ask(question, name, &binds) {
                Ok(WorkerReply::Locate(found)) => found,
                Err(BuildError::Cancelled) => return Err(BuildError::Cancelled),
                // The finding is that two runs differ; the place is only a help.
                _ => None,
            };
        }
        Ok(difference)
    }

    /// Fails if a program or library of the outputs lacks what `build.hardened` asks for.
    pub(crate) fn hardened(&self, run: &Run) -> Result<(), BuildError> {
        let limits = TreeLimits { bytes: u64::MAX, ..TreeLimits::default() };
        let question = Question::Weakest { folder: "out".to_owned(), limits };
        match self.ask(question, "out", &[(Shown::Left(run), FIRST)])? {
            WorkerReply::Weakest(None) => Ok(()),
            WorkerReply::Weakest(Some(weak)) => Err(BuildError::NotHardened {
                recipe: self.given.plan.recipe.to_string(),
                platform: self.given.plan.platform,
                path: weak.path,
                lacks: weak.lacks,
            }),
            _ => Err(self.strange()),
        }
    }

    /// What the programs of the image at `root` need and the image does not have.
    pub(crate) fn missing(&self, root: &Path) -> Result<Lacking, BuildError> {
        // These are above the limits of the outputs, because the base adds a few entries.
        let limits = TreeLimits { bytes: u64::MAX, entries: 200_000, names: 32 << 20 };
        match self.ask(Question::Missing { limits }, "image", &[(Shown::Folder(root), IMAGE)])? {
            WorkerReply::Missing(lacking) => Ok(lacking),
            _ => Err(self.strange()),
        }
    }

    /// Asks a worker in a sandbox that shows `binds`, read-only, and nothing else.
    fn ask(
        &self,
        question: Question,
        name: &str,
        binds: &[(Shown<'_>, &str)],
    ) -> Result<WorkerReply, BuildError> {
        let left = self.clock.left();
        if left.is_zero() {
            return Err(self.clock.over());
        }
        let memory = (self.given.limits.memory_mib << 20).min(MEMORY);
        let request = Request { question, memory, seconds: left.as_secs() + 1 };
        let request = serde_json::to_string(&request).map_err(|e| BuildError::io(name)(e.into()))?;
        let spec = Spec {
            worker: true,
            binds: binds
                .iter()
                .map(|(shown, inside)| Bind {
                    host: shown.path().to_owned(),
                    inside: inside.into(),
                    writable: false,
                })
                .collect(),
            limits: hab_sandbox::RunLimits {
                memory: Some(memory),
                processes: Some(16),
                wall: Some(left),
                log: Some(ANSWER),
                file_size: Some(0),
                scratch: 1 << 20,
                ..hab_sandbox::RunLimits::default()
            },
            ..Spec::new(empty(self.scratch)?, [request])
        };
        let mut answer = Vec::new();
        let mut output = |stream, bytes: &[u8]| {
            if stream == Stream::Stdout {
                answer.extend_from_slice(bytes);
            }
        };
        let volumes: Vec<_> = binds.iter().filter_map(|(shown, _)| shown.volume()).collect();
        let (launcher, cancel) = (&self.workshop.launcher, self.workshop.observer.cancel());
        let report = hab_sandbox::run_on(launcher, &spec, &volumes, &mut output, cancel)?;
        match report.outcome {
            Outcome::Exited(0) => {}
            Outcome::Cancelled => return Err(BuildError::Cancelled),
            Outcome::LimitExceeded(Limit::Wall(_)) => return Err(self.clock.over()),
            outcome => return Err(self.failed(outcome.to_string())),
        }
        match serde_json::from_slice(&answer) {
            Ok(WorkerReply::Refused(chain)) => Err(self.refused(name, &chain)),
            Ok(answer) => Ok(answer),
            Err(e) => Err(self.failed(format!("cannot parse the worker's answer: {e}"))),
        }
    }

    fn refused(&self, name: &str, chain: &[String]) -> BuildError {
        BuildError::Outputs {
            recipe: self.given.plan.recipe.to_string(),
            platform: self.given.plan.platform,
            folder: name.to_owned(),
            problem: chain.join(": "),
        }
    }

    fn failed(&self, problem: String) -> BuildError {
        BuildError::Checking {
            recipe: self.given.plan.recipe.to_string(),
            platform: self.given.plan.platform,
            problem,
        }
    }

    fn strange(&self) -> BuildError {
        self.failed("the worker answered another question".to_owned())
    }
}

/// Makes the root of the sandbox: an empty folder that belongs to the sandbox's user.
fn empty(scratch: &Path) -> Result<PathBuf, BuildError> {
    let path = scratch.join("nothing");
    fs::create_dir_all(&path).map_err(BuildError::io(&path))?;
    if let Some((uid, gid)) = hab_sandbox::owner() {
        std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).map_err(BuildError::io(&path))?;
    }
    Ok(path)
}
