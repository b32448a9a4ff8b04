//! One run of one plan: a fresh work folder, the script in the sandbox, its log and its outputs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hab_keys::{SourceFile, VerifiedSource};
use hab_oci::{Digest, shown};
use hab_sandbox::{Bind, Limits, Machine, Outcome, Report, Spec, Tmpfs, Volume};

use crate::check::Clock;
use crate::log::Log;
use crate::unpack::{self, Options, UnpackError};
use crate::{BuildError, Inputs, Workshop};

/// How much a script may print, in bytes.
const LOG: u64 = 512 << 20;

/// What is changed in a run because it must not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// A name for people.
    pub name: &'static str,
    /// The folder on the host: of the second run it is longer and deeper, because that must not matter either.
    pub folder: &'static str,
    /// The job count.
    pub jobs: usize,
    /// The file creation mask.
    pub umask: u32,
    /// Whether the source lies in memory, created in reverse: another order of files for readdir(3).
    pub reversed: bool,
    /// How far the clocks that can be moved are moved.
    pub uptime: Option<Duration>,
    /// Whether the root is the other copy and `/proc` describes the other machine: other inode numbers, other times
    /// of creation and change, another boot, other numbers of devices and namespaces.
    pub other: bool,
}

impl Circumstances {
    /// The two runs of every plan.
    pub(crate) fn both() -> [Self; 2] {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        [
            Self {
                name: "first",
                folder: "first",
                jobs,
                umask: 0o022,
                reversed: false,
                uptime: None,
                other: false,
            },
            Self {
                name: "second",
                folder: "second/elsewhere",
                jobs: jobs + 1,
                umask: 0o027,
                reversed: true,
                uptime: Some(Duration::from_hours(400 * 24)),
                other: true,
            },
        ]
    }
}

/// What a run left.
pub(crate) struct Run {
    /// Which of the two it was.
    pub name: &'static str,
    /// What was `/build`.
    pub volume: Volume,
    /// What the script printed, in the store.
    pub log: Digest,
    /// The same in the work folder.
    pub log_path: PathBuf,
    /// What it used.
    pub report: Report,
}

impl Workshop<'_> {
    /// Runs the script once, in `scratch`.
    pub(crate) fn run(
        &self,
        given: &Inputs<'_>,
        scratch: &Path,
        how: Circumstances,
    ) -> Result<Run, BuildError> {
        let plan = given.plan;
        self.observer.stage(&format!(
            "build {} {} for {}, {} run",
            plan.recipe, plan.version, plan.platform, how.name
        ));
        let limits = limits(given);
        let place = scratch.join(how.folder);
        if let Some(above) = place.parent() {
            fs::create_dir_all(above).map_err(BuildError::io(above))?;
        }
        let volume = Volume::make(&self.launcher, &place, &limits).map_err(BuildError::io(&place))?;
        self.prepare(given, &volume, how)?;
        let spec = spec(given, volume.path(), how, limits);
        let log_path = scratch.join(format!("{}.log", how.name));
        let mut log = Log::create(&log_path)?;
        let mut output = |_, bytes: &[u8]| log.add(bytes, &mut |line| self.observer.line(line));
        let report =
            hab_sandbox::run_on(&self.launcher, &spec, &[&volume], &mut output, self.observer.cancel())?;
        let tail = log.finish()?;
        // The folder is ours, whatever the script made of its mode; those in it are looked at by their owner.
        let folder = volume.path();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(BuildError::io(folder))?;
        match report.outcome {
            Outcome::Exited(0) => {}
            Outcome::Cancelled => return Err(BuildError::Cancelled),
            outcome => {
                return Err(BuildError::Script {
                    recipe: plan.recipe.to_string(),
                    platform: plan.platform,
                    outcome,
                    tail,
                    log: log_path,
                });
            }
        }
        let mut writer = self.blobs.writer()?;
        let mut file = File::open(&log_path).map_err(BuildError::io(&log_path))?;
        std::io::copy(&mut file, &mut writer).map_err(BuildError::io(&log_path))?;
        let (digest, _) = writer.commit(None)?;
        Ok(Run { name: how.name, volume, log: digest, log_path, report })
    }

    fn prepare(&self, given: &Inputs<'_>, volume: &Volume, how: Circumstances) -> Result<(), BuildError> {
        let folder = volume.path();
        for name in ["src", "out", "debug", "work", "home", "inputs", "recipe"] {
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
        if how.reversed {
            pack_reversed(&folder.join("src"), &folder.join("recipe/src.tar"), &room)?;
        }
        give_away(volume)
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

/// What of the recipe's disk space a run's source and inputs have left.
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

/// Writes what there is room for.
struct Bounded<W> {
    inner: W,
    left: u64,
}

impl<W: std::io::Write> std::io::Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let written = self.inner.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn limits(given: &Inputs<'_>) -> Limits {
    let limits = given.limits;
    Limits {
        memory: Some(limits.memory_mib << 20),
        processes: Some(2048),
        wall: Some(Duration::from_mins(limits.minutes)),
        disk: Some(limits.disk_mib << 20),
        log: Some(LOG.min(limits.disk_mib << 20)),
        file_size: Some(limits.disk_mib << 20),
        ..Limits::default()
    }
}

fn spec(given: &Inputs<'_>, folder: &Path, how: Circumstances, limits: Limits) -> Spec {
    const UNPACK: &str = "tar --extract --preserve-permissions --file=recipe/src.tar --directory=src";
    let script = "exec bash /build/recipe/build.sh";
    let command = if how.reversed { format!("{UNPACK} && {script}") } else { script.to_owned() };
    let source_in_memory = Tmpfs { inside: "/build/src".into(), size: given.limits.memory_mib << 19 };
    Spec {
        env: environment(given, how),
        cwd: "/build".into(),
        binds: vec![Bind { host: folder.to_owned(), inside: "/build".into(), writable: true }],
        tmpfs: if how.reversed { vec![source_in_memory] } else { Vec::new() },
        umask: how.umask,
        machine: machine(how),
        uptime_shift: how.uptime,
        limits,
        ..Spec::new(
            if how.other { given.root.second() } else { given.root.first() },
            ["bash", "-euc", &command],
        )
    }
}

fn machine(how: Circumstances) -> Machine {
    let processors = u32::try_from(how.jobs).unwrap_or(u32::MAX).clamp(1, Machine::MOST_PROCESSORS);
    Machine { processors, other: how.other }
}

/// The contract with every build.sh; docs/RECIPES.md is its description.
fn environment(given: &Inputs<'_>, how: Circumstances) -> BTreeMap<String, String> {
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
        ("JOBS", how.jobs.to_string()),
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
    plan.env.clone().into_iter().chain(fixed).collect()
}

/// A tar archive of a folder, every folder's entries in reverse order of their names.
fn pack_reversed(folder: &Path, archive: &Path, room: &Room<'_>) -> Result<(), BuildError> {
    let failed = |path: &Path, e: std::io::Error| match e.kind() {
        std::io::ErrorKind::FileTooLarge => {
            room.full("its second copy, for a second run with other file orders")
        }
        _ => BuildError::io(path)(e),
    };
    let file = File::create(archive).map_err(BuildError::io(archive))?;
    let mut tar = tar::Builder::new(Bounded { inner: BufWriter::new(file), left: room.left });
    tar.follow_symlinks(false);
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = folder.join(&relative);
        let metadata = fs::symlink_metadata(&path).map_err(BuildError::io(&path))?;
        if !relative.as_os_str().is_empty() {
            append(&mut tar, &path, &relative, &metadata).map_err(|e| failed(&path, e))?;
        }
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let mut names: Vec<_> =
                entries.map_err(BuildError::io(&path))?.iter().map(fs::DirEntry::file_name).collect();
            // What is pushed last comes first.
            names.sort();
            waiting.extend(names.into_iter().map(|name| relative.join(name)));
        }
    }
    tar.into_inner().and_then(|mut w| w.flush()).map_err(|e| failed(archive, e))
}

fn append<W: std::io::Write>(
    tar: &mut tar::Builder<W>,
    path: &Path,
    relative: &Path,
    metadata: &fs::Metadata,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_mode(metadata.mode() & 0o777);
    header.set_size(0);
    if metadata.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, relative, std::io::empty())
    } else if metadata.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut header, relative, fs::read_link(path)?)
    } else {
        header.set_size(metadata.len());
        tar.append_data(&mut header, relative, File::open(path)?)
    }
}

/// Gives everything in the volume to whom the sandbox acts for.
fn give_away(volume: &Volume) -> Result<(), BuildError> {
    let path = volume.path();
    if let Some((uid, gid)) = hab_sandbox::owner() {
        hab_tree::give_away(volume, uid, gid).map_err(BuildError::io(path))?;
    }
    // Whoever acts for nobody else must still be able to enter.
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(BuildError::io(path))
}
