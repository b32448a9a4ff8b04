//! The result of a run.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cgroup::MemoryLimiter;
use crate::space::DiskLimiter;
use crate::words::Refused;

/// Which of the command's two outputs a piece of it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a run ended. Its `Display` is a sentence without a full stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The command ended by itself with this status; 0 is success.
    Exited(i32),
    /// A signal ended the command.
    Signaled(i32),
    /// Everything was stopped because this limit was reached.
    LimitExceeded(Limit),
    /// Everything was stopped because the caller asked for it.
    Cancelled,
    /// Everything was stopped because the host's disk below the writable binds was full; the command is not at fault.
    HostDiskFull,
}

impl Outcome {
    /// Whether the command ended by itself and reported success.
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(0) => write!(f, "the command succeeded"),
            Self::Exited(code) => write!(f, "the command failed with exit status {code}"),
            Self::Signaled(signal) => write!(f, "the command was ended by signal {signal}"),
            Self::LimitExceeded(limit) => write!(f, "the command was stopped: {limit}"),
            Self::Cancelled => write!(f, "the command was cancelled"),
            Self::HostDiskFull => write!(f, "the command was stopped: the disk of this machine is full"),
        }
    }
}

/// A limit that was reached, with its value. See [`crate::RunLimits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Bytes of memory.
    Memory(u64),
    /// Processes and threads.
    Processes(u64),
    /// Wall time.
    Wall(Duration),
    /// Bytes of disk.
    Disk(u64),
    /// Files, folders and links on disk.
    Files(u64),
    /// Bytes of output.
    Log(u64),
    /// Bytes in one file; the command wrote more, and the kernel ended it.
    FileSize(u64),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => {
                write!(f, "it was killed by its memory limit: it used more than {} of memory", Size(*bytes))
            }
            Self::Processes(count) => write!(f, "it ran more than {count} processes at one time"),
            Self::Wall(time) => write!(f, "it ran longer than {time:?}"),
            Self::Disk(bytes) => write!(f, "it used more than {} of disk space", Size(*bytes)),
            Self::Files(count) => write!(f, "it made more than {count} files and folders"),
            Self::Log(bytes) => write!(f, "it printed more than {}", Size(*bytes)),
            Self::FileSize(bytes) => write!(f, "it wrote more than {} to one file", Size(*bytes)),
        }
    }
}

struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// The result of a run, and what it used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How the run ended.
    pub outcome: Outcome,
    /// The time from the call to the start of the command.
    pub setup: Duration,
    /// The time from the start of the command until everything it started was gone.
    pub wall: Duration,
    /// Processor time of all processes in user mode, to 10 ms. For processes that were killed it counts up to the last
    /// sample.
    pub cpu_user: Duration,
    /// Processor time of all processes in the kernel, likewise.
    pub cpu_system: Duration,
    /// The most memory in use at one time, in bytes: private pages of all processes, and what `scratch` and `tmpfs`
    /// held. It is sampled, so a run of some milliseconds may show 0.
    pub peak_memory: u64,
    /// The mechanism that kept the memory limit; `None` without a limit.
    pub memory_limiter: Option<MemoryLimiter>,
    /// The mechanism that kept the disk limit, the weakest if several binds are writable; `None` without a limit.
    pub disk_limiter: Option<DiskLimiter>,
    /// Whether the clocks were moved by [`crate::Vary::Uptime`].
    pub clock_shifted: bool,
    /// Whether programs got the library that [`crate::Spec::preload`] asks for.
    pub preloaded: bool,
    /// The first programs that were refused, each listed once.
    pub refused: Vec<Refused>,
}
