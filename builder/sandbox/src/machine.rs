//! The machine that a command sees. It is made up, so that a build reads the same of it everywhere. There are two such
//! machines, so that an output which depends on the machine differs between two runs.

use std::fmt::Write as _;

use crate::spec::Spec;
use crate::vary::{Varied, Vary};

/// The machine that `/proc` describes. None of it is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    processors: u32,
    varied: Varied,
}

/// The answer to uname(2), which agrees with `/proc`.
pub(crate) struct Identity {
    pub hostname: String,
    pub release: &'static str,
    pub version: &'static str,
}

impl Identity {
    /// `struct utsname`.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        const LENGTH: usize = 65;
        let fields = ["Linux", &self.hostname, self.release, self.version, std::env::consts::ARCH, "(none)"];
        let padded = fields
            .iter()
            .flat_map(|text| text.bytes().take(LENGTH - 1).chain(std::iter::repeat(0)).take(LENGTH));
        padded.collect()
    }
}

/// A path below `/proc` and its content.
pub(crate) type File = (&'static str, String);

impl Machine {
    pub(crate) fn of(spec: &Spec) -> Self {
        Self { processors: spec.processors, varied: spec.varied.clone() }
    }

    /// Names the oldest kernels that the sandbox works with, so that no program misses something that such a kernel
    /// has.
    pub(crate) fn identity(&self, hostname: &str) -> Identity {
        let (release, version) = self.pick(Vary::Kernel, ("5.11.0", "#1 SMP"), ("5.12.0", "#2 SMP"));
        Identity { hostname: hostname.to_owned(), release, version }
    }

    /// The memory that the command sees, in bytes.
    fn memory(&self, limit: u64) -> u64 {
        limit + self.pick(Vary::Hardware, 0, limit / 16)
    }

    /// `struct sysinfo` of a 64-bit kernel.
    pub(crate) fn sysinfo(&self, limit: u64) -> Vec<u8> {
        let total = self.memory(limit);
        let (uptime, procs) = self.pick(Vary::Uptime, (1000, 64_u64), (777_777, 65));
        let words = [uptime, 0, 0, 0, total, total - total / 8, 0, 0, 0, 0, procs, 0, 0, 1];
        words.iter().flat_map(|word: &u64| word.to_le_bytes()).collect()
    }

    /// The set of processors, as sched_getaffinity(2) writes it.
    pub(crate) fn processor_set(&self) -> Vec<u8> {
        let mut set = vec![0; self.processors.div_ceil(64) as usize * 8];
        for processor in 0..self.processors as usize {
            set[processor / 8] |= 1 << (processor % 8);
        }
        set
    }

    fn pick<T>(&self, by: Vary, one: T, other: T) -> T {
        if self.varied.has(by) { other } else { one }
    }

    /// Every file of `/proc` that belongs to no process, except `sys`. `memory` is in bytes.
    pub(crate) fn files(&self, kernel: &Identity, memory: u64) -> Vec<File> {
        vec![
            ("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n".to_owned()),
            ("cmdline", String::new()),
            ("cpuinfo", self.cpuinfo()),
            ("filesystems", "nodev\ttmpfs\nnodev\tproc\nnodev\toverlay\n\text4\n".to_owned()),
            (
                "loadavg",
                self.pick(Vary::Uptime, "0.08 0.03 0.01 1/64 99\n", "0.21 0.17 0.12 2/65 101\n").to_owned(),
            ),
            ("meminfo", self.meminfo(memory)),
            ("mounts", MOUNTS.to_owned()),
            ("stat", self.stat()),
            ("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned()),
            ("uptime", self.pick(Vary::Uptime, "1000.00 1000.00\n", "777777.77 777777.77\n").to_owned()),
            ("version", format!("Linux version {} (hab@hab) {}\n", kernel.release, kernel.version)),
        ]
    }

    /// Every file of `/proc/sys`. Values that are the same for both machines are the kernel's defaults.
    pub(crate) fn settings(&self, kernel: &Identity) -> Vec<File> {
        let boot = self.pick(
            Vary::Kernel,
            "11111111-1111-4111-8111-111111111111",
            "22222222-2222-4222-8222-222222222222",
        );
        let line = |text: &str| format!("{text}\n");
        vec![
            ("fs/file-max", line("1048576")),
            ("fs/nr_open", line("1048576")),
            ("fs/overflowgid", line("65534")),
            ("fs/overflowuid", line("65534")),
            ("fs/pipe-max-size", line("1048576")),
            ("kernel/cap_last_cap", line("40")),
            ("kernel/core_pattern", line("core")),
            ("kernel/domainname", line("(none)")),
            ("kernel/hostname", line(&kernel.hostname)),
            ("kernel/ngroups_max", line("65536")),
            ("kernel/osrelease", line(kernel.release)),
            ("kernel/ostype", line("Linux")),
            ("kernel/overflowgid", line("65534")),
            ("kernel/overflowuid", line("65534")),
            ("kernel/pid_max", line("4194304")),
            ("kernel/random/boot_id", line(boot)),
            ("kernel/randomize_va_space", line("2")),
            ("kernel/sem", line("32000\t1024000000\t500\t32000")),
            ("kernel/shmall", line("18446744073692774399")),
            ("kernel/shmmax", line("18446744073692774399")),
            ("kernel/shmmni", line("4096")),
            ("kernel/threads-max", line(self.pick(Vary::Hardware, "100000", "200000"))),
            ("kernel/version", line(kernel.version)),
            ("net/core/somaxconn", line("4096")),
            ("vm/max_map_count", line("65530")),
            ("vm/mmap_min_addr", line("65536")),
            ("vm/overcommit_memory", line("0")),
            ("vm/overcommit_ratio", line("50")),
            ("vm/swappiness", line("60")),
        ]
    }

    fn cpuinfo(&self) -> String {
        (0..self.processors).map(|number| self.processor(number)).collect()
    }

    /// A processor with the features that its architecture demands, and no others.
    #[cfg(target_arch = "x86_64")]
    fn processor(&self, number: u32) -> String {
        let (model, name, mhz, cache) = self.pick(
            Vary::Hardware,
            (1, "Plain x86-64", 2000, 4096),
            (2, "Plain x86-64, another", 2400, 8192),
        );
        let (vendor, more) = self.pick(Vary::Hardware, ("PlainMachine", ""), ("OtherMachine", " pni"));
        let (cores, bogomips) = (self.processors, mhz * 2);
        format!(
            "processor\t: {number}\nvendor_id\t: {vendor}\ncpu family\t: 6\nmodel\t\t: {model}\nmodel name\t: {name}\n\
             stepping\t: 1\nmicrocode\t: 0x1\ncpu MHz\t\t: {mhz}.000\ncache size\t: {cache} KB\nphysical id\t: 0\n\
             siblings\t: {cores}\ncore id\t\t: {number}\ncpu cores\t: {cores}\napicid\t\t: {number}\n\
             initial apicid\t: {number}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 1\nwp\t\t: yes\n\
             flags\t\t: fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht \
             syscall nx lm constant_tsc nopl{more}\nbugs\t\t:\nbogomips\t: {bogomips}.00\nclflush size\t: 64\n\
             cache_alignment\t: 64\naddress sizes\t: 40 bits physical, 48 bits virtual\npower management:\n\n"
        )
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn processor(&self, number: u32) -> String {
        let (bogomips, part) = self.pick(Vary::Hardware, ("50.00", "0xd03"), ("100.00", "0xd07"));
        format!(
            "processor\t: {number}\nBogoMIPS\t: {bogomips}\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n\
             CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 1\n\n"
        )
    }

    fn meminfo(&self, memory: u64) -> String {
        let total = self.memory(memory) >> 10;
        let free = total - total / 8;
        let lines = [
            ("MemTotal", total),
            ("MemFree", free),
            ("MemAvailable", free),
            ("Buffers", 0),
            ("Cached", 0),
            ("SwapCached", 0),
            ("Active", total / 16),
            ("Inactive", total / 16),
            ("SwapTotal", 0),
            ("SwapFree", 0),
            ("Dirty", 0),
            ("Writeback", 0),
            ("AnonPages", total / 16),
            ("Mapped", 0),
            ("Shmem", 0),
            ("Slab", 0),
            ("CommitLimit", total / 2),
            ("Committed_AS", total / 16),
            ("VmallocTotal", 34_359_738_367),
        ];
        let huge = "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n";
        let mut text = String::new();
        for (name, kilobytes) in lines {
            let name = format!("{name}:");
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{name:<16}{kilobytes:>8} kB");
        }
        text + huge
    }

    fn stat(&self) -> String {
        let (each, boot, processes) =
            self.pick(Vary::Uptime, (100_000, 946_684_800, 100), (77_777_777, 978_307_200, 1000));
        let line = |name: &str, times: u64| format!("{name} {times} 0 {times} {} 0 0 0 0 0 0\n", times * 8);
        let all = line("cpu ", each * u64::from(self.processors));
        let lines = (0..self.processors).map(|number| line(&format!("cpu{number}"), each));
        all + &lines.collect::<String>()
            + &format!(
                "intr 0\nctxt 0\nbtime {boot}\nprocesses {processes}\nprocs_running 1\nprocs_blocked 0\nsoftirq 0\n"
            )
    }
}

/// The table of mounts, without any path of the host.
const MOUNTS: &str = "overlay / overlay rw,nosuid,nodev 0 0\nproc /proc proc rw,nosuid,nodev,noexec 0 0\n\
                      tmpfs /dev tmpfs rw,nosuid,nodev 0 0\n";

#[cfg(test)]
mod tests {
    use super::{Machine, Varied, Vary};

    fn machine(processors: u32, varied: impl IntoIterator<Item = Vary>) -> Machine {
        Machine { processors, varied: Varied::from_iter(varied) }
    }

    fn files(machine: &Machine) -> Vec<super::File> {
        let identity = machine.identity("hab");
        let mut all = machine.files(&identity, 4 << 30);
        all.extend(machine.settings(&identity));
        all
    }

    #[test]
    fn what_tells_machines_apart_differs_by_what_is_varied() {
        let plain = files(&machine(2, []));
        for (vary, expected) in [
            (Vary::Uptime, vec!["loadavg", "stat", "uptime"]),
            (Vary::Hardware, vec!["cpuinfo", "meminfo", "kernel/threads-max"]),
            (Vary::Kernel, vec!["version", "kernel/osrelease", "kernel/random/boot_id", "kernel/version"]),
            (Vary::Order, vec![]),
        ] {
            let other = files(&machine(2, [vary]));
            let differing: Vec<_> =
                plain.iter().zip(&other).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
            assert_eq!(differing, expected, "{vary}");
        }
    }

    #[test]
    fn answers_have_the_sizes_of_the_kernels_structures() {
        let machine = machine(65, Vary::ALL);
        assert_eq!(machine.identity("hab").bytes().len(), size_of::<libc::utsname>());
        assert_eq!(machine.sysinfo(1 << 30).len(), size_of::<libc::sysinfo>());
        assert_eq!(machine.processor_set(), [[0xff; 8], [1, 0, 0, 0, 0, 0, 0, 0]].concat());
    }

    #[test]
    fn every_processor_is_listed() {
        let machine = machine(3, []);
        let text =
            |name: &str| files(&machine).into_iter().find(|(path, _)| *path == name).map(|(_, text)| text);
        let count = |name: &str, prefix: &str| {
            text(name).unwrap_or_default().lines().filter(|line| line.starts_with(prefix)).count()
        };
        assert_eq!((count("cpuinfo", "processor"), count("stat", "cpu")), (3, 4));
    }
}
