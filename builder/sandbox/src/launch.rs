//! The caller's side: checks the spec, starts the helper and follows it through its set-up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rustix::fs::fchown;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Pid, Uid};

use crate::cgroup::Cgroup;
use crate::disk::Disks;
use crate::error::SandboxError;
use crate::launcher::{Launcher, helper_command};
use crate::namespaces;
use crate::report::{Report, Stream};
use crate::spec::Spec;
use crate::supervise::{Ends, Supervisor};
use crate::volume::Volume;
use crate::wire::{self, Job, Order};

/// Runs the command of `spec` to its end, and passes its output to `output` as it comes.
///
/// Blocks the calling thread; the sandbox dies with that thread, not only with the process. `cancel` is read ten times
/// a second. When this returns, nothing of the run is left but the files in writable binds. No limit is checked while
/// `output` runs, so it should be quick.
pub fn run(
    launcher: &Launcher,
    spec: &Spec,
    output: &mut dyn FnMut(Stream, &[u8]),
    cancel: &AtomicBool,
) -> Result<Report, SandboxError> {
    run_on(launcher, spec, &[], output, cancel)
}

/// [`run`] with volumes: a bind whose `host` is the path of a volume shows that volume. Its files stay for the next
/// run.
pub fn run_on(
    launcher: &Launcher,
    spec: &Spec,
    volumes: &[&Volume],
    output: &mut dyn FnMut(Stream, &[u8]),
    cancel: &AtomicBool,
) -> Result<Report, SandboxError> {
    let begun = Instant::now();
    spec.check()?;
    namespaces::check_proc().map_err(|problem| SandboxError::NoProc { problem })?;
    let (control, theirs) = wire::pair()?;
    let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;

    if let Some((uid, gid)) = namespaces::owner() {
        // Opening /dev/stdout or /dev/stderr opens the pipe again, so the user inside must own it.
        for pipe in [&their_stdout, &their_stderr] {
            fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(io::Error::from)?;
        }
    }
    let helper = start(launcher, theirs, their_stdout, their_stderr)?;
    let in_memory = volumes.iter().map(|volume| volume.memory()).sum();
    // Make the group before the helper does anything, so that everything it starts is in the group.
    let group = Cgroup::around(helper, &spec.limits, in_memory);
    let shown: Vec<_> =
        spec.binds.iter().map(|bind| volumes.iter().find(|v| v.path() == bind.host)).collect();
    let disks = Disks::new(spec, &shown)?;
    let mounts: Vec<_> =
        shown.iter().enumerate().filter_map(|(n, v)| Some((n, v.as_ref()?.take_mount()?))).collect();
    let supervisor =
        Supervisor::new(helper, Ends { control, stdout, stderr }, &spec.limits, begun, group, disks);
    let job = Job {
        spec: spec.clone(),
        caller: std::process::id(),
        volumes: mounts.iter().map(|(number, _)| *number).collect(),
        privileged: namespaces::owner().is_some(),
    };
    let sent: Vec<_> = mounts.iter().map(|(_, mount)| mount.as_fd()).collect();
    supervisor.order(&Order::Run(Box::new(job)), &sent).map_err(|source| {
        if source.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) {
            let problem = "are too large together; pass large values in a file".to_owned();
            SandboxError::Invalid { field: "command, env and binds", problem }
        } else {
            source.into()
        }
    })?;
    let (report, back) = supervisor.follow(output, cancel)?;
    for ((number, _), mount) in mounts.iter().zip(back) {
        if let Some(volume) = shown[*number] {
            volume.put_mount(mount);
        }
    }
    Ok(report)
}

fn start(
    launcher: &Launcher,
    control: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<Pid, SandboxError> {
    let mut command = helper_command(launcher);
    command.stdin(control).stdout(stdout).stderr(Stdio::from(stderr));
    let failed = |source| SandboxError::Launch { program: launcher.program.clone(), source };
    let child = command.spawn().map_err(failed)?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| failed(io::ErrorKind::Other.into()))
}
