//! The caller's loop during a run: passes output on, listens to the helper, samples what the run uses, and stops
//! everything when a limit is reached or the caller cancels.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};

use crate::cgroup::{Cgroup, MemoryLimiter};
use crate::disk::Disks;
use crate::error::SandboxError;
use crate::namespaces;
use crate::report::{Limit, Outcome, Report, Stream};
use crate::spec::RunLimits;
use crate::sys::{self, Ended};
use crate::usage::Usage;
use crate::wire::{self, Notice, Order};
use crate::words::{NOT_STARTED, Refused};

/// The longest time for which a request to cancel can go unnoticed.
const NAP: Duration = Duration::from_millis(100);
/// The time between two samples. A run starts with shorter intervals, so that a quick one is sampled too.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
const FIRST_SAMPLE: Duration = Duration::from_millis(10);
/// The most refused programs that the report lists.
const MOST_REFUSED: usize = 16;
/// The most bytes of output that are read at once: as much as a pipe holds.
const CHUNK: usize = 64 << 10;

/// The caller's ends of the three connections to the helper.
pub(crate) struct Ends {
    pub control: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// The helper process. Dropping it, also by a panic in the caller's callback, kills it and all processes below.
struct Helper {
    pid: Pid,
    /// Process 1 of the sandbox, once it is known. Killing it ends everything, and the helper then ends by itself when
    /// all processes are gone.
    init: Option<OwnedFd>,
    reaped: bool,
}

impl Helper {
    fn kill(&self) {
        // An error means that the process has ended already.
        let _ = match &self.init {
            Some(init) => pidfd_send_signal(init, Signal::KILL),
            None => kill_process(self.pid, Signal::KILL),
        };
    }

    fn wait(&mut self) -> io::Result<Ended> {
        self.reaped = true;
        sys::wait_with_usage(self.pid)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            let _ = self.wait();
        }
    }
}

/// What the helper has reported so far.
#[derive(Default)]
struct Heard {
    started: Option<Instant>,
    clock_shifted: bool,
    preloaded: bool,
    refused: Vec<Refused>,
    error: Option<SandboxError>,
    volumes: Vec<OwnedFd>,
    ended: Option<i32>,
}

pub(crate) struct Supervisor<'a> {
    helper: Helper,
    ends: Ends,
    limits: &'a RunLimits,
    begun: Instant,
    group: Option<Cgroup>,
    disks: Disks,
    heard: Heard,
    usage: Option<Usage>,
    /// Why the run was stopped. It is set once.
    verdict: Option<Outcome>,
    printed: u64,
}

impl<'a> Supervisor<'a> {
    pub(crate) fn new(
        helper: Pid,
        ends: Ends,
        limits: &'a RunLimits,
        begun: Instant,
        group: Option<Cgroup>,
        disks: Disks,
    ) -> Self {
        Self {
            helper: Helper { pid: helper, init: None, reaped: false },
            ends,
            limits,
            begun,
            group,
            disks,
            heard: Heard::default(),
            usage: None,
            verdict: None,
            printed: 0,
        }
    }

    pub(crate) fn order(&self, order: &Order, mounts: &[BorrowedFd<'_>]) -> io::Result<()> {
        match wire::send(&self.ends.control, order, mounts) {
            // The helper ended early. The end of its messages says the same, with the reason.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Follows the run until everything in the sandbox has ended. Returns the volumes' mounts for their next run too.
    pub(crate) fn follow(
        mut self,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &AtomicBool,
    ) -> Result<(Report, Vec<OwnedFd>), SandboxError> {
        let mut buffer = vec![0; CHUNK];
        let mut open = [true; 3];
        let mut distance = FIRST_SAMPLE;
        let mut next_sample = Instant::now() + distance;
        while open.contains(&true) {
            let ready = self.await_any(open, next_sample)?;
            for (index, stream) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
                if ready[index] {
                    open[index] = self.pass_on(stream, &mut buffer, output)?;
                }
            }
            if ready[2] {
                open[2] = self.listen(output)?;
            }
            if cancel.load(Ordering::Relaxed) {
                self.stop(Outcome::Cancelled);
            }
            self.check_wall();
            if Instant::now() >= next_sample {
                self.sample();
                distance = (distance * 2).min(SAMPLE_EVERY);
                next_sample = Instant::now() + self.disks.nap(distance, FIRST_SAMPLE);
            }
        }
        let ended = self.helper.wait()?;
        if self.verdict.is_none() {
            let scratch = self.scratch_used();
            self.verdict = self.kernels_verdict().or_else(|| self.disks.over_at_the_end(scratch));
        }
        let volumes = std::mem::take(&mut self.heard.volumes);
        Ok((self.conclude(&ended)?, volumes))
    }

    fn await_any(&self, open: [bool; 3], until: Instant) -> io::Result<[bool; 3]> {
        let all = [&self.ends.stdout, &self.ends.stderr, &self.ends.control];
        let (indices, mut fds): (Vec<_>, Vec<_>) = (0..3)
            .filter(|index| open[*index])
            .map(|index| (index, PollFd::new(all[index], PollFlags::IN)))
            .unzip();
        let nap = until.saturating_duration_since(Instant::now()).min(NAP);
        let nap = Timespec { tv_sec: 0, tv_nsec: i64::from(nap.subsec_nanos()) };
        match poll(&mut fds, Some(&nap)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = [false; 3];
        for (index, fd) in indices.into_iter().zip(&fds) {
            ready[index] = !fd.revents().is_empty();
        }
        Ok(ready)
    }

    /// Passes on the output that is ready; `false` at the end of the stream.
    fn pass_on(
        &mut self,
        stream: Stream,
        buffer: &mut [u8],
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> io::Result<bool> {
        let from = match stream {
            Stream::Stdout => &self.ends.stdout,
            Stream::Stderr => &self.ends.stderr,
        };
        let got = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut *buffer))?;
        self.print(stream, &buffer[..got], output);
        Ok(got > 0)
    }

    fn print(&mut self, stream: Stream, bytes: &[u8], output: &mut dyn FnMut(Stream, &[u8])) {
        output(stream, bytes);
        self.printed += bytes.len() as u64;
        if let Some(most) = self.limits.log.filter(|most| self.printed > *most) {
            self.stop(Outcome::LimitExceeded(Limit::Log(most)));
        }
    }

    /// Handles one message; `false` when the helper and process 1 are gone.
    fn listen(&mut self, output: &mut dyn FnMut(Stream, &[u8])) -> io::Result<bool> {
        let Some((notice, fds)) = wire::receive::<Notice>(&self.ends.control)? else { return Ok(false) };
        match notice {
            Notice::MapMe => match namespaces::write_maps(self.helper.pid) {
                Ok(()) => self.order(&Order::Mapped, &[])?,
                // The helper was killed meanwhile.
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let enable = namespaces::what_to_enable();
                    self.heard.error = Some(SandboxError::NamespacesRefused { enable, source });
                    self.helper.kill();
                }
            },
            Notice::Init => {
                self.helper.init = fds.into_iter().next();
                // The run may have been stopped before its process 1 was known.
                if self.verdict.is_some() {
                    self.helper.kill();
                }
            }
            Notice::Started { clock_shifted, preloaded } => {
                self.heard.started = Some(Instant::now());
                self.heard.clock_shifted = clock_shifted;
                self.heard.preloaded = preloaded;
                self.usage = Usage::new(fds, self.group.is_some());
            }
            Notice::Failed(failure) => {
                self.heard.error.get_or_insert(failure.into_error(namespaces::outside()));
            }
            // Process 1 sends the first to the helper; the second answers a request that this helper never gets.
            Notice::Listener { .. } | Notice::Memory => {}
            Notice::Volumes => self.heard.volumes = fds,
            Notice::Refused(refused) => {
                self.print(Stream::Stderr, format!("{NOT_STARTED}{refused}\n").as_bytes(), output);
                if self.heard.refused.len() < MOST_REFUSED && !self.heard.refused.contains(&refused) {
                    self.heard.refused.push(refused);
                }
            }
            Notice::Ended(status) => self.heard.ended = Some(status),
        }
        Ok(true)
    }

    fn check_wall(&mut self) {
        let over = |most: &Duration| self.heard.started.is_some_and(|started| started.elapsed() > *most);
        if let Some(most) = self.limits.wall.filter(over) {
            self.stop(Outcome::LimitExceeded(Limit::Wall(most)));
        }
    }

    /// The limit at which the kernel refused something in the run's control group, however the command reacted.
    fn kernels_verdict(&self) -> Option<Outcome> {
        let group = self.group.as_ref()?;
        let memory = self.limits.memory.filter(|_| group.has_killed()).map(Limit::Memory);
        let limit =
            memory.or_else(|| self.limits.processes.filter(|_| group.has_refused()).map(Limit::Processes))?;
        Some(Outcome::LimitExceeded(limit))
    }

    fn sample(&mut self) {
        if let Some(outcome) = self.kernels_verdict() {
            return self.stop(outcome);
        }
        let Some(usage) = &mut self.usage else { return };
        usage.sample();
        let limits = self.limits;
        let reached = if let Some(most) = limits.memory.filter(|most| usage.memory_is_over(*most)) {
            Some(Outcome::LimitExceeded(Limit::Memory(most)))
        } else if let Some(most) = limits.processes.filter(|most| usage.tasks() > *most) {
            Some(Outcome::LimitExceeded(Limit::Processes(most)))
        } else {
            self.disks.over(usage)
        };
        if let Some(outcome) = reached {
            self.stop(outcome);
        }
    }

    fn scratch_used(&self) -> u64 {
        self.usage.as_ref().map_or(0, Usage::scratch_used)
    }

    fn stop(&mut self, why: Outcome) {
        // A run that has ended can no longer be stopped.
        if self.verdict.is_none() && self.heard.ended.is_none() && self.heard.error.is_none() {
            self.verdict = Some(why);
            self.helper.kill();
        }
    }

    fn conclude(mut self, ended: &Ended) -> Result<Report, SandboxError> {
        // After a verdict, an error only shows how the helper ended.
        if let Some(error) = self.heard.error.take().filter(|_| self.verdict.is_none()) {
            return Err(error);
        }
        let outcome = match (self.verdict, self.heard.ended) {
            (Some(verdict), _) => verdict,
            (None, Some(status)) => self.outcome_of(ExitStatus::from_raw(status)),
            (None, None) => return Err(SandboxError::Lost { status: ended.status }),
        };
        let started = self.heard.started.unwrap_or_else(Instant::now);
        let (sampled_user, sampled_system) = self.usage.as_ref().map(Usage::cpu).unwrap_or_default();
        Ok(Report {
            outcome,
            setup: started.duration_since(self.begun),
            wall: started.elapsed(),
            // Nobody waits for a process that was killed, so only the samples know its time.
            cpu_user: ended.user.max(sampled_user),
            cpu_system: ended.system.max(sampled_system),
            peak_memory: self.usage.as_ref().map_or(0, Usage::peak_memory),
            memory_limiter: self
                .limits
                .memory
                .map(|_| self.group.as_ref().map_or(MemoryLimiter::Sampled, Cgroup::limiter)),
            disk_limiter: self.disks.limiter(),
            clock_shifted: self.heard.clock_shifted,
            preloaded: self.heard.preloaded,
            refused: self.heard.refused,
        })
    }

    fn outcome_of(&self, status: ExitStatus) -> Outcome {
        match (status.code(), status.signal(), self.limits.file_size) {
            (_, Some(libc::SIGXFSZ), Some(most)) => Outcome::LimitExceeded(Limit::FileSize(most)),
            (_, Some(signal), _) => Outcome::Signaled(signal),
            (Some(code), None, _) => Outcome::Exited(code),
            (None, None, _) => Outcome::Exited(-1),
        }
    }
}
