//! Runs one command in a copy-on-write view of an unpacked root filesystem, with nothing else of the host in sight: no
//! network, no other process, no file that was not listed, no capability.
//!
//! **Layer**: the lowest of `builder/`. It knows nothing of recipes or toolchains; it takes a [`Spec`] (plain data) and
//! returns a [`Report`]. It is synchronous: a run is one blocking call.
//!
//! **Start reading** at [`run`] in `launch.rs`, then in the order things happen:
//!
//! | file | where it runs | what it does |
//! |---|---|---|
//! | `spec.rs` | caller | what to run, what is visible, what is allowed |
//! | `vary.rs` | caller | what can be changed in a second run |
//! | `launch.rs`, `launcher.rs` | caller | starts the helper, answers it |
//! | `volume.rs`, `image.rs`, `space.rs`, `cgroup.rs` | caller | makes what the kernel limits a run with |
//! | `supervise.rs`, `usage.rs`, `disk.rs` | caller | streams output, takes samples, stops a run that breaks a limit |
//! | `helper.rs`, `namespaces.rs` | helper | unshares, waits for its user map, becomes the build user |
//! | `init.rs`, `mounts.rs`, `places.rs`, `devices.rs` | process 1 | makes the view, starts the command, reaps |
//! | `machine.rs`, `facts.rs` | process 1 | the machine that `/proc` describes |
//! | `preload.rs` and `preload/preload.c` | process 1, every program | makes up the date and inode numbers |
//! | `answers.rs`, `words.rs`, `listing.rs`, `filesystem.rs` | process 1, helper | answers system calls for the same machine; makes up the order of folders and file systems |
//! | `privileges.rs`, `seccomp.rs` | process 1 | gives everything up before the command starts |
//! | `wire.rs`, `error.rs`, `report.rs` | both | the messages between the two sides, errors, the report |
//!
//! The helper is the calling program itself, executed again: **`main` must call [`init_if_requested`] before anything
//! else.** No state outlives a run: the mounts belong to a private namespace, every process dies with process 1, and
//! process 1 dies with the calling *thread*.
//!
//! # Why not an OCI runtime
//! libcontainer 0.7 (a tree of 128 crates) and crun both need a bundle on disk. Neither mounts a copy-on-write root for
//! a normal user, counts disk use or wall time, or shifts the clocks; the supervisor of this crate would be needed on
//! top of either. crun is also one more program to install and to keep up to date on every farm. A runtime would save
//! only the system calls, and this crate makes those itself.
//!
//! # What it needs
//! Linux 5.11 for overlays in a user namespace, and 5.14 to count processes for each sandbox by itself. The sysctl
//! kernel.yama.ptrace_scope must be below 3, since the helper writes answers into the memory of the calling process.
//! Before 6.6 a folder of the root that was removed cannot be made again (EIO): the overlay marks it with attributes
//! that file systems in memory did not have.
//!
//! # What a command can read of the machine and of its caller
//! *Fixed* is the same everywhere. *Varied* is made up, and different where [`Spec::varied`] says so: a second run then
//! finds an output that holds it. *Visible* is the host's own, with the reason.
//!
//! | what | how | by |
//! |---|---|---|
//! | `/proc/cpuinfo`, `meminfo`, `stat`, `uptime`, `loadavg`, `version` | varied | `machine.rs`, `facts.rs` |
//! | `/proc/sys/kernel/{random/boot_id,osrelease,version,threads-max}` | varied | the same |
//! | the rest of `/proc/sys`; `/proc/{filesystems,mounts,cgroups,swaps,cmdline}` | fixed | the same |
//! | `/proc/sys/kernel/random/uuid` | random at each reading | the kernel |
//! | every other file of `/proc`; `/sys` | absent | `subset=pid`; nothing is mounted there |
//! | mounts, in `/proc/<pid>/{mountinfo,mounts,mountstats}` | empty | `mounts.rs`, `leave_table` |
//! | uname(2); sysinfo(2) | varied | `answers.rs` |
//! | the number of processors: sched_getaffinity(2), sysconf(3) | what [`Spec::processors`] says | `answers.rs`, `machine.rs` |
//! | time since boot; CPU time since then of a process (`/proc/<pid>/stat`) | moved by [`Vary::Uptime`] | `namespaces.rs` |
//! | host name, domain name, user, group, umask, variables, descriptors | fixed, or the spec's | `privileges.rs`, `init.rs` |
//! | resource limits | fixed, unless the caller's own are lower | `privileges.rs` |
//! | numbers of namespaces, mounts and filesystems in memory (`/proc/<pid>/ns`, `st_dev`) | visible: the kernel takes the lowest free number. With [`Vary::Numbers`] a decoy takes numbers first, so that the run gets others, unless something else on the host frees one | `namespaces.rs`, `Decoy` |
//! | the order in which a folder lists its files (getdents64(2)), everywhere but in `/proc` | varied: two orders, each computed from the names alone | `listing.rs` |
//! | files of the root: content, owner, mode, time of modification | the root's own | the caller's manifest |
//! | files of the root, for static programs: inode number, times of change and of creation | visible: they come from the disk below the overlay. A caller that runs twice uses two copies of the root | the caller |
//! | device nodes: times, inode numbers | fixed if the caller is root; for a normal user the host's own nodes, since a user namespace cannot make any | `devices.rs` |
//! | kind, size and free space of a file system (statfs(2)) | varied: made up from the limits | `filesystem.rs` |
//! | where programs lie in memory | random; with [`Vary::Addresses`] always the same | `privileges.rs` |
//! | the real-time clock | varied for dynamic programs of a root with glibc, where [`Spec::preload`] asks for it; visible for others: no namespace moves this clock, and reading it is not a system call | `preload.rs` |
//! | files: inode number, device number, times of change; files that were made in this run: every time | varied, under the same condition | `preload.rs` |
//! | files: blocks; folders: size, links | fixed, under the same condition: computed from the size | `preload.rs` |
//! | time of creation of a file; times of devices | absent, under the same condition | `preload.rs` |
//! | time of access to a file that was not changed in the run | fixed, under the same condition: the time of modification | `preload.rs` |
//! | the five rows above, where the C library itself asks the kernel (nftw(3), fts(3), ftok(3), getdate(3)), and in programs that make system calls without it | visible: the kernel's own | |
//! | the processor: CPUID, the time stamp counter, getcpu(2), what `/proc/self/auxv` and `status` show of it | visible: these are instructions, not system calls, and not every processor can be told to refuse them | |
//! | the kernel's version in the vDSO's note; which system calls the kernel has | visible: the vDSO is mapped into every process | |
//! | what `/proc/<pid>` has for each process: names of control groups (version 1), security label, audit session, score of the out-of-memory killer, scheduling; `/proc/<pid>/net` of the empty network | visible: files of a process cannot be covered, and most change from reading to reading | |
//! | the nice value; the user's ids outside (`/proc/self/uid_map`) | fixed | `privileges.rs` |
//! | a normal user's other groups, as `nogroup` | visible: they cannot be given up | |
//!
//! # What keeps the limits
//! The kernel enforces them, if the caller has the right to ask for that; [`Report`] says which mechanism did.
//!
//! | limit | first choice | otherwise |
//! |---|---|---|
//! | memory | a control group of version 2, then of version 1 (`cgroup.rs`) | samples (`usage.rs`) |
//! | disk, files | a file system of its own: an image (root) or memory (`volume.rs`) | counting (`disk.rs`) |
//! | processes | `RLIMIT_NPROC` in the user namespace, `pids.max` | |
//!
//! With a file system of its own, a run can use no more than the limit, a 64th of it and 16 MiB. Samples and counts are
//! taken five times a second, or a hundred times when a counted disk is nearly full; what a run takes between two of
//! them can exceed the limit. The system call filter is the same in every case, so that a build does not depend on the
//! case. It refuses memory files, System V and POSIX queues, larger buffers of pipes and sockets, and allocating disk
//! without writing. Samples still miss small objects of the kernel (file locks, mappings, timers).

mod answers;
mod cgroup;
mod devices;
mod disk;
mod error;
mod facts;
mod filesystem;
mod helper;
mod image;
mod init;
mod launch;
mod launcher;
mod listing;
mod machine;
mod mounts;
mod namespaces;
mod places;
mod preload;
mod privileges;
mod report;
mod seccomp;
mod space;
mod spec;
mod supervise;
mod sys;
mod usage;
mod vary;
mod volume;
mod wire;
mod words;

pub use cgroup::MemoryLimiter;
pub use error::{Fault, SandboxError, Step};
pub use helper::{Worker, init_if_requested, init_if_requested_with};
pub use launch::{run, run_on};
pub use launcher::Launcher;
pub use namespaces::{BUILD_ID, INSIDE_ID, owner};
pub use report::{Limit, Outcome, Report, Stream};
pub use space::DiskLimiter;
pub use spec::{Bind, RunLimits, Spec, Tmpfs};
pub use vary::{UnknownVary, Varied, Vary};
pub use volume::Volume;
pub use words::{NOT_STARTED, Refused};
