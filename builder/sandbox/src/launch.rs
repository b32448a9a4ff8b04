//! The caller's side: checks the spec, starts the helper and sees it through its set-up.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rustix::fs::fchown;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Pid, Uid};

use crate::error::SandboxError;
use crate::helper::MARKER;
use crate::namespaces;
use crate::report::{Report, Stream};
use crate::spec::Spec;
use crate::supervise::{Ends, Supervisor};
use crate::wire::{self, Job, Order};

/// Which executable becomes the helper.
#[derive(Debug, Clone)]
pub struct Launcher {
    program: PathBuf,
}

impl Default for Launcher {
    /// This program itself, even when its file was replaced since it started.
    fn default() -> Self {
        Self { program: PathBuf::from("/proc/self/exe") }
    }
}

impl Launcher {
    /// Another program that calls [`crate::init_if_requested`], for callers that cannot: tests, plugins.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

/// Runs the command of `spec` to its end and hands its output to `output` as it comes.
///
/// Blocks the calling thread; the sandbox dies with that thread, not only with the process. `cancel` is
/// looked at ten times a second. When this returns nothing of the run is left but what it wrote to
/// writable binds. While `output` runs, no limit is watched, so it should be quick.
pub fn run(
    launcher: &Launcher,
    spec: &Spec,
    output: &mut dyn FnMut(Stream, &[u8]),
    cancel: &AtomicBool,
) -> Result<Report, SandboxError> {
    let begun = Instant::now();
    spec.check()?;
    let (control, theirs) = wire::pair()?;
    let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;

    if let Some((uid, gid)) = namespaces::owner() {
        // So that /dev/stdout and /dev/stderr, which open the pipe again, can be opened inside.
        for pipe in [&their_stdout, &their_stderr] {
            fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(io::Error::from)?;
        }
    }
    let helper = start(launcher, theirs, their_stdout, their_stderr)?;
    let supervisor = Supervisor::new(helper, Ends { control, stdout, stderr }, &spec.limits, begun);
    let job =
        Job { spec: spec.clone(), caller: std::process::id(), privileged: namespaces::owner().is_some() };
    supervisor.order(&Order::Run(Box::new(job))).map_err(|source| {
        if source.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) {
            let problem = "is too large; pass large values in a file".to_owned();
            SandboxError::Invalid { field: "command, env and binds", problem }
        } else {
            source.into()
        }
    })?;
    let disks = spec.binds.iter().filter(|bind| bind.writable).map(|bind| bind.host.clone()).collect();
    supervisor.follow(disks, output, cancel)
}

fn start(
    launcher: &Launcher,
    control: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<Pid, SandboxError> {
    let mut command = Command::new(&launcher.program);
    command.arg0(MARKER).env_clear().stdin(control).stdout(stdout).stderr(Stdio::from(stderr));
    // The program may have been started with it, and then needs it again to load.
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", path);
    }
    let failed = |source| SandboxError::Launch { program: launcher.program.clone(), source };
    let child = command.spawn().map_err(failed)?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| failed(io::ErrorKind::Other.into()))
}
