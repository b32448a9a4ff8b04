//! Process 1 of the sandbox: builds the view, gives up every privilege, starts the command, and reaps processes until
//! the command has ended. When process 1 ends, everything in the sandbox ends.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::{Command, Stdio, exit};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, chdir, setpgid, setsid, umask, wait};

use crate::error::{At, Failure, Step};
use crate::helper::Worker;
use crate::mounts::{Stage, WatchHandles, enter_view, leave_table};
use crate::spec::Spec;
use crate::vary::Vary;
use crate::wire::{self, Notice};
use crate::{answers, privileges, seccomp, sys};

/// Runs the command and ends this process. Returns only if a step before that fails.
pub(crate) fn run(
    control: &OwnedFd,
    helper: OwnedFd,
    spec: &Spec,
    stage: &Stage,
    clock_shifted: bool,
    worker: Worker,
) -> Result<Infallible, Failure> {
    let watched = enter_view(spec, stage)?;
    privileges::name_host(&spec.hostname).step(Step::Privileges)?;
    sys::raise_loopback().step(Step::Privileges)?;
    // From here on this process has rights only over what it makes itself. This comes before `leave_table`, because a
    // process whose root is not that of its mount namespace can make no user namespace.
    privileges::forget_outside().step(Step::Privileges)?;
    leave_table().step(Step::Root)?;
    if spec.varied.has(Vary::Addresses) {
        sys::place_alike().step(Step::Privileges)?;
    }
    let filters = seccomp::filters().step(Step::Filter)?;
    chdir(&spec.cwd).at(Step::WorkingFolder, &spec.cwd)?;
    setsid().step(Step::Privileges)?;
    privileges::set_limits(&spec.limits).step(Step::Privileges)?;
    privileges::be_last().step(Step::Privileges)?;
    privileges::drop_all().step(Step::Privileges)?;
    seccomp::load(&filters).step(Step::Filter)?;
    let listener = answers::listen(spec).step(Step::Filter)?;
    wire::send(&helper, &Notice::Listener { preloaded: watched.preloaded }, &[listener.as_fd()])
        .step(Step::Filter)?;
    // From here on, the filtered calls of this process would wait for the helper as well; it makes none of them.
    drop((listener, helper));
    umask(Mode::from_raw_mode(spec.umask));

    tell_started(control, &watched, clock_shifted).step(Step::Begin)?;
    drop(watched);
    let command = if spec.worker { start_worker(spec, worker)? } else { start(spec)? };
    let status = reap_until(command).step(Step::Command)?;
    // If this fails the caller is gone, and this process ends with it.
    let _ = wire::send(control, &Notice::Ended(status), &[]);
    exit(0)
}

fn tell_started(control: &OwnedFd, watched: &WatchHandles, clock_shifted: bool) -> io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> =
        [watched.proc.as_fd()].into_iter().chain(watched.memory.iter().map(AsFd::as_fd)).collect();
    wire::send(control, &Notice::Started { clock_shifted, preloaded: watched.preloaded }, &fds)
}

fn start(spec: &Spec) -> Result<Pid, Failure> {
    let program = spec.command.first().map(String::as_str).unwrap_or_default();
    let child = Command::new(program)
        .args(spec.command.get(1..).unwrap_or_default())
        .env_clear()
        .envs(spec.environment())
        .stdin(Stdio::null())
        // A process group of its own, so that `kill 0` in a script does not reach this process.
        .process_group(0)
        .spawn()
        .at(Step::Command, Path::new(program))?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH).step(Step::Command)
}

/// Starts a function of this program instead of a command. It must not have the descriptors of process 1, or it could
/// speak to the caller as process 1.
fn start_worker(spec: &Spec, worker: Worker) -> Result<Pid, Failure> {
    if let Some(child) = sys::fork().step(Step::Command)? {
        return Ok(child);
    }
    let alone = sys::close_from(3).is_ok() && setpgid(None, None).is_ok();
    // A panic must not unwind into the code that process 1 would run next.
    let answered = alone.then(|| catch_unwind(|| worker(&spec.command)));
    exit(answered.and_then(Result::ok).unwrap_or(101))
}

/// Waits for every process that loses its parent, until the command itself ends.
fn reap_until(command: Pid) -> io::Result<i32> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => return Ok(status.as_raw()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
