//! What a running sandbox uses, read from outside through its own `/proc`: that lists its processes and
//! no others, so a sample costs nothing for what else the host runs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Dir, Mode, OFlags, fstatvfs, openat};
use rustix::param::{clock_ticks_per_second, page_size};

/// A precise count of memory walks page tables, so one is not repeated sooner than this unless the cheap
/// count has grown by all that was free.
const RECOUNT_AFTER: Duration = Duration::from_secs(2);

pub(crate) struct Usage {
    proc: OwnedFd,
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
    /// Pages of all processes, a shared one counted once for each: never too few.
    resident: u64,
    in_memory_files: u64,
}

/// The last precise count.
struct Recount {
    at: Instant,
    resident: u64,
    free: u64,
}

impl Usage {
    /// From the descriptors that came with the start of the command.
    pub(crate) fn new(fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let proc = fds.next()?;
        let last = Sample::default();
        Some(Self { proc, memory: fds.collect(), last, peak: 0, cpu: Default::default(), recount: None })
    }

    /// Looks at every process once. One that ends meanwhile is left out.
    pub(crate) fn sample(&mut self) {
        let mut sample = Sample { in_memory_files: self.memory.iter().map(used).sum(), ..Sample::default() };
        let (mut private, mut user, mut system) = (0, 0, 0);
        for pid in self.processes() {
            let Some(stat) = self.read(&pid, "stat").as_deref().and_then(Stat::parse) else { continue };
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
        }
        self.last = sample;
        self.peak = self.peak.max(private + sample.in_memory_files);
        let ticks = clock_ticks_per_second().max(1);
        let time = |count: u64| Duration::from_millis(count * 1000 / ticks);
        self.cpu = (self.cpu.0.max(time(user)), self.cpu.1.max(time(system)));
    }

    /// Whether the processes and the files in memory take more than `most` bytes, by the last sample; when
    /// that could be because it counts shared pages many times, by a precise count.
    pub(crate) fn memory_is_over(&mut self, most: u64) -> bool {
        let Sample { resident, in_memory_files, .. } = self.last;
        if resident + in_memory_files <= most {
            return false;
        }
        let settled = self.recount.as_ref().is_some_and(|last| {
            last.at.elapsed() < RECOUNT_AFTER && resident.saturating_sub(last.resident) < last.free
        });
        if settled {
            return false;
        }
        let exact = in_memory_files
            + self.processes().iter().filter(|pid| *pid != "1").map(|pid| self.exact(pid)).sum::<u64>();
        let free = most.saturating_sub(exact);
        self.recount = Some(Recount { at: Instant::now(), resident, free });
        self.peak = self.peak.max(exact);
        exact > most
    }

    /// The share of one process in anonymous and shared memory, each page divided by those who map it.
    fn exact(&self, pid: &str) -> u64 {
        let Some(rollup) = self.read(pid, "smaps_rollup") else { return 0 };
        let kilobytes = |line: &str| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
        rollup
            .lines()
            .filter(|line| line.starts_with("Pss_Anon:") || line.starts_with("Pss_Shmem:"))
            .filter_map(kilobytes)
            .sum::<u64>()
            << 10
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

/// The fields of `/proc/<pid>/stat` that matter, proc_pid_stat(5).
struct Stat {
    user: u64,
    system: u64,
    threads: u64,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The name before can hold anything, parentheses too. Field 3 comes first after it.
        let fields: Vec<&str> = line.get(line.rfind(')')? + 2..)?.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        // The time of the children it has waited for included.
        Some(Self { user: field(14)? + field(16)?, system: field(15)? + field(17)?, threads: field(20)? })
    }
}

/// Pages in memory, and those among them that belong to files or are shared.
fn statm(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split(' ').skip(1).map(|field| field.parse().ok());
    Some((fields.next()??, fields.next()??))
}

#[cfg(test)]
mod tests {
    use super::Stat;

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) S 9 (b) R 1 7 7 0 -1 4194304 90 0 0 0 11 22 33 44 20 0 5 0 100 1000 50";
        let stat = Stat::parse(line).expect("a line of the kernel's format");
        assert_eq!((stat.user, stat.system, stat.threads), (44, 66, 5));
    }
}
