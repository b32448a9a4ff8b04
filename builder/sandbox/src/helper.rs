//! The helper: a process between the caller and process 1 of the sandbox. It makes the namespaces, waits for its user
//! map, forks process 1, and ends when process 1 has ended.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::exit;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Gid, Pid, PidfdFlags, Signal, Uid, WaitOptions, getppid, pidfd_open,
    set_dumpable_behavior, set_parent_process_death_signal, umask, waitpid,
};
use rustix::thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::answers::Answers;
use crate::error::{At, Failure, Step};
use crate::mounts::{Stage, memory_of};
use crate::namespaces::{Decoy, INSIDE_ID, shift_clocks, unshare_all};
use crate::vary::Vary;
use crate::wire::{self, Job, Notice, Order};
use crate::{init, sys};

/// The helper's `argv[0]`, which no shell and no user would type by accident.
pub(crate) const MARKER: &str = "init (hab-sandbox)";

/// Becomes the sandbox's helper, and never returns, if [`crate::run`] started this process as one; does nothing
/// otherwise. Call it in the first line of `main`, before a file is opened or a thread is started.
pub fn init_if_requested() {
    init_if_requested_with(|_| 127);
}

/// A function of this program that runs in a sandbox instead of a command. It gets the words of
/// [`crate::Spec::command`] and returns the exit status. It has a process of its own with the three standard streams.
pub type Worker = fn(&[String]) -> i32;

/// [`init_if_requested`] for a program that has a [`Worker`], which runs if [`crate::Spec::worker`] is set.
pub fn init_if_requested_with(worker: Worker) {
    if std::env::args_os().next().as_deref() == Some(OsStr::new(MARKER)) {
        exit(helper(worker));
    }
}

fn helper(worker: Worker) -> i32 {
    let Ok(control) = take_control() else { return 1 };
    let Err(failure) = begin(&control, worker);
    // If this fails the caller is gone, and nobody is left to receive it.
    let _ = wire::send(&control, &Notice::Failed(failure), &[]);
    1
}

/// Takes the socket to the caller from standard input, because that descriptor stays open across execve(2). Closes all
/// others that the caller had open.
fn take_control() -> io::Result<OwnedFd> {
    sys::close_from(3)?;
    let control = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&nothing)?;
    Ok(control)
}

fn begin(control: &OwnedFd, worker: Worker) -> Result<Infallible, Failure> {
    let (job, volumes) = match wire::receive(control).step(Step::Begin)? {
        Some((Order::Run(job), volumes)) => (job, volumes),
        Some((Order::Memory { bytes, files }, _)) => return make_memory(control, bytes, files),
        _ => exit(1),
    };
    let volumes: BTreeMap<_, _> = job.volumes.iter().copied().zip(volumes).collect();
    sys::default_signals();
    umask(Mode::from_raw_mode(0o022));
    die_with_caller(&job).step(Step::Begin)?;
    let proc = Answers::proc().step(Step::Begin)?;

    // Root can read folders that the build user cannot reach, so the helper gathers the sources before it becomes that
    // user.
    let (early, volumes) =
        if job.privileged { (Some(gather(&job, volumes)?), BTreeMap::new()) } else { (None, volumes) };
    let decoy =
        if job.spec.varied.has(Vary::Numbers) { Some(Decoy::new().step(Step::Namespaces)?) } else { None };
    unshare_all().step(Step::Namespaces)?;
    wait_for_map(control).step(Step::Identity)?;
    let clock_shifted = job.spec.varied.has(Vary::Uptime) && shift_clocks();
    become_build_user().step(Step::Identity)?;
    // The change of user cleared this setting.
    die_with_caller(&job).step(Step::Identity)?;
    let mut stage = match early {
        Some(stage) => stage,
        None => Stage::gather(&job.spec, volumes)?,
    };
    let again = std::mem::take(&mut stage.again);
    if !again.is_empty() {
        let again: Vec<_> = again.iter().map(AsFd::as_fd).collect();
        wire::send(control, &Notice::Volumes, &again).step(Step::Source)?;
    }
    drop(again);

    // Process 1 polls this socket to learn whether this process died before it could ask for a signal. It sends one
    // message.
    let (life, mine) = wire::pair().step(Step::Begin)?;
    let Some(child) = sys::fork().step(Step::Namespaces)? else {
        drop((mine, decoy, proc));
        die_with_helper(&life).step(Step::Begin)?;
        return init::run(control, life, &job.spec, &stage, clock_shifted, worker);
    };
    drop(life);
    tell_init(control, child).step(Step::Begin)?;
    let answers = match wire::receive(&mine).step(Step::Begin)? {
        Some((Notice::Listener { preloaded }, fds)) => {
            fds.into_iter().next().map(|listener| Answers::new(listener, proc, &job.spec, preloaded))
        }
        // Process 1 failed before, and reports that itself.
        _ => None,
    };
    watch(control, child, answers, decoy).step(Step::Begin)
}

/// Makes a file system in memory in a way that a normal user can: in namespaces that end with this process. The
/// caller's descriptor keeps alive as much of them as it needs.
fn make_memory(control: &OwnedFd, bytes: u64, files: u64) -> Result<Infallible, Failure> {
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).step(Step::Namespaces)?;
    wait_for_map(control).step(Step::Identity)?;
    become_build_user().step(Step::Identity)?;
    let mount = memory_of(bytes, files, "0755").step(Step::Mount)?;
    wire::send(control, &Notice::Memory, &[mount.as_fd()]).step(Step::Mount)?;
    exit(0)
}

fn wait_for_map(control: &OwnedFd) -> io::Result<()> {
    wire::send(control, &Notice::MapMe, &[])?;
    if let Some((Order::Mapped, _)) = wire::receive(control)? { Ok(()) } else { exit(1) }
}

fn gather(job: &Job, volumes: BTreeMap<usize, OwnedFd>) -> Result<Stage, Failure> {
    set_thread_groups(&[]).step(Step::Identity)?;
    sys::unshare(UnshareFlags::NEWNS).step(Step::Namespaces)?;
    Stage::gather(&job.spec, volumes)
}

fn become_build_user() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(INSIDE_ID), Gid::from_raw(INSIDE_ID));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    // After the change of user, this process's own files in /proc would belong to root.
    Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}

fn die_with_caller(job: &Job) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if u32::try_from(parent) == Ok(job.caller) { Ok(()) } else { exit(1) }
}

/// Process 1 sees 0 as its parent's number, so it asks the socket whether the helper still exists.
fn die_with_helper(life: &OwnedFd) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut fds = [PollFd::new(life, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if fds[0].revents().is_empty() { Ok(()) } else { exit(1) }
}

fn tell_init(control: &OwnedFd, child: Pid) -> io::Result<()> {
    let handle = pidfd_open(child, PidfdFlags::empty())?;
    wire::send(control, &Notice::Init, &[handle.as_fd()])
}

/// Answers calls, and ends this process when process 1 has ended. Then everything in the sandbox has ended: the kernel
/// lets nobody wait for the first process of a namespace before the others are gone.
fn watch(
    control: &OwnedFd,
    child: Pid,
    mut answers: Option<Answers>,
    mut decoy: Option<Decoy>,
) -> io::Result<Infallible> {
    let handle = pidfd_open(child, PidfdFlags::empty())?;
    while let Some(answering) = &answers {
        let mut fds = [
            PollFd::new(&handle, PollFlags::IN),
            PollFd::from_borrowed_fd(answering.listener(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let (ended, asked) = (fds[0].revents(), fds[1].revents());
        if asked.contains(PollFlags::IN) {
            if let Some(refused) = answering.answer()? {
                // If this fails the caller is gone, and the sandbox ends with it.
                let _ = wire::send(control, &Notice::Refused(refused), &[]);
            }
        } else if !ended.is_empty() || !asked.is_empty() {
            // No process is left that could make a call.
            answers = None;
        }
    }
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some(_)) => {
                decoy.take().into_iter().for_each(Decoy::dismiss);
                exit(0)
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
