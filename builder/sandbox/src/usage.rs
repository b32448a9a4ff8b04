//! Measures what a running sandbox uses, from outside through the sandbox's own `/proc`. That lists its processes and
//! no others, so the cost of a sample does not depend on what else the host runs.
//!
//! If a control group enforces the memory limit, the numbers here are for the report alone. Otherwise they enforce it.
//! Then they count everything in which the filter lets a command hide memory: pages of processes, with swapped ones and
//! page tables, everything in file systems in memory, and sockets and pipes as if each were full.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstatvfs, openat, statat};
use rustix::param::{clock_ticks_per_second, page_size};

/// The shortest time between two precise counts of memory, which walk page tables. A count comes sooner only if the
/// cheap count has grown by all that was free.
const RECOUNT_AFTER: Duration = Duration::from_secs(2);

/// The most bytes in a pipe; the filter refuses to make one larger.
const PIPE: u64 = 64 << 10;

pub(crate) struct Usage {
    proc: OwnedFd,
    /// Whether the kernel enforces the memory limit.
    kept: bool,
    /// The most bytes in a socket; the filter lets nobody raise it.
    socket: u64,
    /// The scratch space, then every tmpfs.
    memory: Vec<OwnedFd>,
    last: Sample,
    peak: u64,
    cpu: (Duration, Duration),
    recount: Option<Recount>,
}

#[derive(Default, Clone, Copy)]
struct Sample {
    tasks: u64,
    /// Bytes in the pages of all processes. A shared page counts once for each process, so this is never too low.
    resident: u64,
    /// Bytes in pipes, as if every slot of every table of open files were an end of one.
    pipes: u64,
    sockets: u64,
    in_memory_files: u64,
}

/// The last precise count.
struct Recount {
    at: Instant,
    resident: u64,
    free: u64,
}

impl Usage {
    /// Starts measuring, with the descriptors that the helper sent at the start of the command.
    pub(crate) fn new(fds: Vec<OwnedFd>, kept: bool) -> Option<Self> {
        let mut fds = fds.into_iter();
        let proc = fds.next()?;
        let last = Sample::default();
        let memory = fds.collect();
        let socket = if kept { 0 } else { largest_socket() };
        Some(Self { proc, kept, socket, memory, last, peak: 0, cpu: Default::default(), recount: None })
    }

    /// Samples every process once. A process that ends meanwhile is left out.
    pub(crate) fn sample(&mut self) {
        let mut sample = Sample { in_memory_files: self.memory.iter().map(used).sum(), ..Sample::default() };
        let (mut private, mut user, mut system) = (0, 0, 0);
        for pid in self.processes() {
            let Some(stat) = self.read(&pid, "stat").as_deref().and_then(Times::parse) else { continue };
            user += stat.user;
            system += stat.system;
            if pid == "1" {
                continue;
            }
            sample.tasks += stat.threads;
            if let Some((resident, shared)) = self.read(&pid, "statm").as_deref().and_then(statm) {
                sample.resident += resident * page_size() as u64;
                private += resident.saturating_sub(shared) * page_size() as u64;
            }
            if !self.kept {
                let status = self.status(&pid);
                sample.resident += status.beside;
                sample.pipes += status.slots / 2 * PIPE;
            }
        }
        sample.sockets = self.sockets();
        self.last = sample;
        self.peak = self.peak.max(private + sample.in_memory_files);
        let ticks = clock_ticks_per_second().max(1);
        let time = |count: u64| Duration::from_millis(count * 1000 / ticks);
        self.cpu = (self.cpu.0.max(time(user)), self.cpu.1.max(time(system)));
    }

    /// Whether the processes and the files in memory take more than `most` bytes. The last sample may say so only
    /// because it counts shared pages many times; then a precise count decides.
    pub(crate) fn memory_is_over(&mut self, most: u64) -> bool {
        let Sample { resident, in_memory_files, sockets, pipes, .. } = self.last;
        if self.kept || resident + in_memory_files + sockets + pipes <= most {
            return false;
        }
        let resident = resident + pipes;
        let settled = self.recount.as_ref().is_some_and(|last| {
            last.at.elapsed() < RECOUNT_AFTER && resident.saturating_sub(last.resident) < last.free
        });
        if settled {
            return false;
        }
        let exact = in_memory_files
            + sockets
            + self.pipes()
            + self.processes().iter().filter(|pid| *pid != "1").map(|pid| self.exact(pid)).sum::<u64>();
        let free = most.saturating_sub(exact);
        self.recount = Some(Recount { at: Instant::now(), resident, free });
        self.peak = self.peak.max(exact);
        exact > most
    }

    /// One process's share of anonymous and shared memory, each page divided by the processes that map it, plus the
    /// memory in [`Status::beside`].
    fn exact(&self, pid: &str) -> u64 {
        let Some(rollup) = self.read(pid, "smaps_rollup") else { return 0 };
        let beside = if self.kept { 0 } else { self.status(pid).beside };
        let kilobytes = |line: &str| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
        rollup
            .lines()
            .filter(|line| line.starts_with("Pss_Anon:") || line.starts_with("Pss_Shmem:"))
            .filter_map(kilobytes)
            .sum::<u64>()
            .saturating_mul(1 << 10)
            + beside
    }

    fn status(&self, pid: &str) -> Status {
        self.read(pid, "status").as_deref().map(Status::parse).unwrap_or_default()
    }

    /// Bytes in all sockets of the sandbox, as if each were full. Those on their way through another socket count too.
    fn sockets(&self) -> u64 {
        if self.socket == 0 {
            return 0;
        }
        let read = self.read("1", "net/sockstat").unwrap_or_default();
        let used =
            read.lines().find_map(|line| line.strip_prefix("sockets: used ")?.trim().parse::<u64>().ok());
        used.unwrap_or(0).saturating_mul(self.socket)
    }

    /// Bytes in all pipes that a process has open, as if each were full.
    fn pipes(&self) -> u64 {
        let mut seen = HashSet::new();
        let hidden = self.open_files(&mut |stat| {
            if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
                seen.insert((stat.st_dev, stat.st_ino));
            }
        });
        (seen.len() as u64 + hidden).saturating_mul(PIPE)
    }

    /// The files on `devices` that have no name any more and that processes hold open or map.
    pub(crate) fn unlinked(&self, devices: &BTreeSet<u64>) -> Unlinked {
        let mut found = Unlinked::default();
        let mut seen = HashSet::new();
        let hidden = self.open_files(&mut |stat| {
            if stat.st_nlink == 0 && devices.contains(&stat.st_dev) && seen.insert((stat.st_dev, stat.st_ino))
            {
                found.files += 1;
                found.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
        });
        let maps = |pid: &String| self.read(pid, "maps").is_some_and(|maps| maps.contains(" (deleted)\n"));
        // A file can also wait in a socket until a process receives it.
        found.hidden = hidden > 0 || self.sockets() > 0 || self.processes().iter().any(maps);
        found
    }

    /// Calls `show` for every open file of every process. Returns how many more there may be that cannot be seen.
    fn open_files(&self, show: &mut dyn FnMut(&Stat)) -> u64 {
        let mut hidden = 0;
        for pid in self.processes().iter().filter(|pid| *pid != "1") {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = openat(&self.proc, format!("{pid}/fd"), flags, Mode::empty());
            let listed = opened.and_then(|table| Ok((Dir::read_from(&table)?, table)));
            let Ok((entries, table)) = listed else {
                // The process has ended, or hides its open files (prctl(2), PR_SET_DUMPABLE).
                hidden += self.status(pid).slots;
                continue;
            };
            for entry in entries.flatten() {
                if let Ok(stat) = statat(&table, entry.file_name(), AtFlags::empty()) {
                    show(&stat);
                }
            }
        }
        hidden
    }

    /// Threads of all processes but process 1.
    pub(crate) fn tasks(&self) -> u64 {
        self.last.tasks
    }

    /// Bytes in the scratch space now.
    pub(crate) fn scratch_used(&self) -> u64 {
        self.memory.first().map_or(0, used)
    }

    pub(crate) fn peak_memory(&self) -> u64 {
        self.peak
    }

    /// User and system time, as far as sampled.
    pub(crate) fn cpu(&self) -> (Duration, Duration) {
        self.cpu
    }

    fn processes(&self) -> Vec<String> {
        let Ok(folder) = Dir::read_from(&self.proc) else { return Vec::new() };
        folder
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned))
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            .collect()
    }

    fn read(&self, pid: &str, name: &str) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.proc, format!("{pid}/{name}"), flags, Mode::empty()).ok()?;
        io::read_to_string(std::fs::File::from(file)).ok()
    }
}

fn used(filesystem: impl AsFd) -> u64 {
    fstatvfs(filesystem).map_or(0, |stat| stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize)
}

/// Open files that have no name any more.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Unlinked {
    pub bytes: u64,
    pub files: u64,
    /// Whether there may be more that cannot be seen.
    pub hidden: bool,
}

/// The most that a socket takes by default, in bytes of the kernel's memory; 4096 of them are for the socket itself.
fn largest_socket() -> u64 {
    let read = std::fs::read_to_string("/proc/sys/net/core/wmem_default").unwrap_or_default();
    read.trim().parse().unwrap_or(212_992) + 4096
}

/// The fields of `/proc/<pid>/status` that matter, proc_pid_status(5).
#[derive(Default)]
struct Status {
    /// Bytes of memory that are not among the resident pages: page tables, swapped and huge pages.
    beside: u64,
    /// Slots in the process's table of open files, used or not.
    slots: u64,
}

impl Status {
    fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let number = || value.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
            match name {
                "VmPTE" | "VmSwap" | "HugetlbPages" => status.beside += number() << 10,
                // A process that has ended but was not waited for has no slots.
                "FDSize" => status.slots = number(),
                _ => {}
            }
        }
        status
    }
}

/// The fields of `/proc/<pid>/stat` that matter, proc_pid_stat(5).
struct Times {
    user: u64,
    system: u64,
    threads: u64,
}

impl Times {
    fn parse(line: &str) -> Option<Self> {
        // The process's name, field 2, can hold anything, parentheses too. Field 3 comes first after it.
        let fields: Vec<&str> = line.get(line.rfind(')')? + 2..)?.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        // This includes the time of the children that it has waited for.
        Some(Self { user: field(14)? + field(16)?, system: field(15)? + field(17)?, threads: field(20)? })
    }
}

/// The number of pages in memory, and how many of them belong to files or are shared.
fn statm(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split(' ').skip(1).map(|field| field.parse().ok());
    Some((fields.next()??, fields.next()??))
}

#[cfg(test)]
mod tests {
    use super::{Status, Times};

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) S 9 (b) R 1 7 7 0 -1 4194304 90 0 0 0 11 22 33 44 20 0 5 0 100 1000 50";
        let stat = Times::parse(line).expect("a line of the kernel's format");
        assert_eq!((stat.user, stat.system, stat.threads), (44, 66, 5));
    }

    #[test]
    fn page_tables_and_swapped_pages_are_beside_the_resident_ones() {
        let text = "Name:\tVmPTE: 7\nFDSize:\t256\nVmRSS:\t 9000 kB\nVmPTE:\t  40 kB\nVmSwap:\t   2 kB\n";
        let status = Status::parse(text);
        assert_eq!((status.beside, status.slots), (42 << 10, 256));
    }
}
