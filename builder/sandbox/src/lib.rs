//! Run one command in a copy-on-write view of an unpacked root filesystem, with nothing else of the
//! host in sight: no network, no other process, no file that was not listed, no capability.
//!
//! **Layer**: the lowest of `builder/`. It knows nothing of recipes or toolchains; it gets a [`Spec`]
//! (plain data) and gives a [`Report`]. Synchronous, one blocking call a run.
//!
//! **Start reading** at [`run`] in `launch.rs`, then in the order things happen:
//!
//! | file | where it runs | what it does |
//! |---|---|---|
//! | `spec.rs` | caller | what to run, what is visible, what is allowed |
//! | `launch.rs` | caller | starts the helper, answers it |
//! | `volume.rs`, `image.rs`, `cgroup.rs` | caller | what the kernel keeps the limits with |
//! | `supervise.rs`, `usage.rs`, `disk.rs` | caller | streams output, samples, stops what breaks a limit |
//! | `helper.rs`, `namespaces.rs` | helper | unshares, waits for its user map, becomes the build user |
//! | `init.rs`, `mounts.rs`, `places.rs`, `devices.rs` | process 1 | makes the view, starts the command, reaps |
//! | `privileges.rs`, `seccomp.rs` | process 1 | gives everything up before the command starts |
//! | `wire.rs`, `error.rs`, `report.rs` | both | what the two sides say to each other and to you |
//!
//! The helper is the calling program itself, executed again: **`main` must call
//! [`init_if_requested`] before anything else.** No state outlives a run: the mounts belong to a private
//! namespace, every process dies with process 1, and that dies with the calling *thread*.
//!
//! # Why not an OCI runtime
//! libcontainer 0.7 (a tree of 128 crates) and crun both want a bundle on disk, and neither mounts a
//! copy-on-write root for a normal user, counts disk use or wall time, or shifts the clocks; the
//! supervisor below would be needed on top of either. crun is also one more program to install and to
//! keep up to date on every farm. What is left after that is the system calls, and those are here.
//!
//! # What it needs
//! Linux 5.11 for overlays in a user namespace, 5.14 to count processes for each sandbox by itself. Before
//! 6.6 a folder of the root that was removed cannot be made again (EIO): marking it needs attributes that
//! memory filesystems did not have.
//!
//! # What is not hidden
//! The kernel's version, the processor, the amount of memory, the load, the real-time clock, the free
//! space of the disks that hold binds, the inode numbers and change times (`ctime`) of the root's files,
//! the times of the host's device nodes, and a bind's path within its own disk (`/proc/self/mountinfo`).
//! A normal user's supplementary groups stay attached, as `nogroup`.
//!
//! # What keeps the limits
//! The kernel, where the caller may have that; [`Report`] says what it was.
//!
//! | limit | first choice | otherwise |
//! |---|---|---|
//! | memory | a control group of version 2, then of version 1 (`cgroup.rs`) | samples (`usage.rs`) |
//! | disk, files | a file system of its own: an image (root) or memory (`volume.rs`) | counting (`disk.rs`) |
//! | processes | `RLIMIT_NPROC` in the user namespace, `pids.max` | |
//!
//! With a file system of its own, a run gets no more than the limit, a 64th of it and 16 MiB. Samples and counts are
//! taken five times a second, a hundred times when a counted disk is nearly full; what a run takes between two of them
//! can pass the limit. The system call filter is the same in every case, so that a build does not depend on it: memory
//! files, System V and POSIX queues, larger buffers of pipes and sockets, and allocating disk without writing are refused.
//! What samples still miss is small things of the kernel's own (file locks, mappings, timers).

mod cgroup;
mod devices;
mod disk;
mod error;
mod helper;
mod image;
mod init;
mod launch;
mod mounts;
mod namespaces;
mod places;
mod privileges;
mod report;
mod seccomp;
mod spec;
mod supervise;
mod sys;
mod usage;
mod volume;
mod wire;

pub use cgroup::MemoryLimiter;
pub use error::{Fault, SandboxError, Step};
pub use helper::init_if_requested;
pub use launch::{Launcher, run, run_on};
pub use namespaces::{BUILD_ID, INSIDE_ID, owner};
pub use report::{Limit, Outcome, Report, Stream};
pub use spec::{Bind, Limits, Spec, Tmpfs};
pub use volume::{DiskLimiter, Volume};
