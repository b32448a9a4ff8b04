//! What a command can read of the machine and of its caller: made-up, the same everywhere, or another in the other run.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use hab_sandbox::{Varied, Vary};
use support::{ROOT_TIME, World, each_caller, each_volume};

/// All that is below `/proc` beside what belongs to a process.
const OURS: [&str; 41] = [
    "cgroups",
    "cmdline",
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "mounts",
    "stat",
    "swaps",
    "sys/fs/file-max",
    "sys/fs/nr_open",
    "sys/fs/overflowgid",
    "sys/fs/overflowuid",
    "sys/fs/pipe-max-size",
    "sys/kernel/cap_last_cap",
    "sys/kernel/core_pattern",
    "sys/kernel/domainname",
    "sys/kernel/hostname",
    "sys/kernel/ngroups_max",
    "sys/kernel/osrelease",
    "sys/kernel/ostype",
    "sys/kernel/overflowgid",
    "sys/kernel/overflowuid",
    "sys/kernel/pid_max",
    "sys/kernel/random/boot_id",
    "sys/kernel/random/uuid",
    "sys/kernel/randomize_va_space",
    "sys/kernel/sem",
    "sys/kernel/shmall",
    "sys/kernel/shmmax",
    "sys/kernel/shmmni",
    "sys/kernel/threads-max",
    "sys/kernel/version",
    "sys/net/core/somaxconn",
    "sys/vm/max_map_count",
    "sys/vm/mmap_min_addr",
    "sys/vm/overcommit_memory",
    "sys/vm/overcommit_ratio",
    "sys/vm/swappiness",
    "uptime",
    "version",
];

fn in_other(world: World) -> World {
    world.with(|spec| {
        spec.processors = 3;
        spec.varied = Varied::all();
    })
}

/// Every path below the host's `/proc` and `/sys` that belongs to no process, down to a depth that covers their files.
fn paths_of_the_host() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = vec!["/proc".to_owned(), "/sys".to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let process = name.bytes().all(|byte| byte.is_ascii_digit());
            if folder == "/proc" && (process || name == "self" || name == "thread-self") {
                continue;
            }
            let path = format!("{folder}/{name}");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && path.matches('/').count() < 6 {
                waiting.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

#[test]
fn every_file_below_proc_and_sys_is_a_processs_or_one_of_ours() {
    let host = paths_of_the_host();
    assert!(host.contains("/proc/cpuinfo") && host.contains("/proc/sys/kernel/random/boot_id"), "{host:?}");
    each_caller(|world| {
        let list: Vec<_> = host.iter().map(String::as_str).collect();
        fs::write(world.path("work/paths"), list.join("\n") + "\n").unwrap();
        let seen = world.prints(
            "while read -r path; do if [ -e \"$path\" ] || [ -L \"$path\" ]; then echo \"$path\"; fi; done </build/paths",
        );
        // Looked for by every name that the host has, since a name need not be listed to be there.
        let is_ours = |path: &str| {
            let below = path.strip_prefix("/proc/").unwrap_or("nothing of /sys");
            OURS.contains(&below) || OURS.iter().any(|ours| ours.starts_with(&format!("{below}/")))
        };
        let strange: Vec<_> = seen.lines().filter(|path| !is_ours(path)).collect();
        assert!(strange.is_empty(), "{strange:?}");
        assert!(seen.lines().any(|path| path == "/proc/cpuinfo"), "{seen}");
        let listed = world.prints("ls /proc; find /proc/sys -type f");
        let listed: Vec<_> =
            listed.lines().filter(|name| !name.bytes().all(|byte| byte.is_ascii_digit())).collect();
        let expected =
            OURS.iter().filter(|ours| ours.starts_with("sys/")).map(|ours| format!("/proc/{ours}"));
        let expected: BTreeSet<_> = expected.chain(["self".to_owned(), "thread-self".to_owned()]).collect();
        assert_eq!(listed.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), expected);
    });
}

#[test]
fn made_up_files_are_the_same_for_every_caller_and_cannot_be_written() {
    let all = OURS.iter().filter(|ours| !ours.ends_with("uuid"));
    let all = all.map(|ours| format!("/proc/{ours}")).collect::<Vec<_>>().join(" ");
    let seen = std::cell::RefCell::new(BTreeSet::new());
    each_caller(|world| {
        let text = world.prints(&format!(
            "cd /proc; for f in {all}; do echo \"== $f\"; cat $f; (echo 1 >$f) 2>/dev/null && echo WRITTEN; \
             (: >$f.new) 2>/dev/null && echo WRITTEN; rm -f $f 2>/dev/null && echo REMOVED; done; true"
        ));
        assert!(!text.contains("WRITTEN") && !text.contains("REMOVED"), "{text}");
        for host in ["/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/kernel/random/boot_id"] {
            assert!(!text.contains(&fs::read_to_string(host).unwrap()), "{host}");
        }
        let host = fs::read_to_string("/proc/cpuinfo").unwrap();
        let model = host.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("no model");
        assert!(!text.contains(model), "{text}");
        seen.borrow_mut().insert(text);
    });
    assert_eq!(seen.borrow().len(), 1);
}

#[test]
fn what_tells_machines_apart_differs_in_the_other_run() {
    each_caller(|world| {
        let files = ["cpuinfo", "meminfo", "stat", "uptime", "loadavg", "sys/kernel/random/boot_id"];
        let script = files.map(|file| format!("cat /proc/{file}; echo ==;")).concat();
        let one = world.prints(&script);
        let other = in_other(world).prints(&script);
        for (at, (one, other)) in one.split("==").zip(other.split("==")).enumerate().take(files.len()) {
            assert_ne!(one, other, "{}", files[at]);
        }
    });
}

#[test]
fn the_table_of_mounts_names_nothing_of_the_host() {
    each_caller(|world| {
        let seen = world.prints(
            "cat /proc/self/mountinfo /proc/self/mounts /proc/self/mountstats /proc/1/mountinfo; cat /proc/mounts",
        );
        let host = fs::read_to_string("/proc/self/mounts").unwrap();
        let sources =
            host.lines().filter_map(|line| line.split(' ').next()).filter(|word| word.starts_with('/'));
        for word in sources.chain(["lowerdir", "upperdir", "/root", world.path("").to_str().unwrap()]) {
            assert!(!seen.contains(word), "{word} in {seen}");
        }
        // It still can be read, and says what a build may want to know.
        assert!(seen.contains("overlay / overlay"), "{seen}");
    });
}

#[test]
fn a_process_cannot_leave_its_root_although_its_table_of_mounts_is_another() {
    each_caller(|world| {
        let seen = world.prints(
            "cd /proc/self/root/../../..; ls -d /build/../../../etc; pwd; cd /build && pwd; readlink /proc/self/root; \
             readlink /proc/self/cwd; ls ../../..",
        );
        assert!(!seen.contains("home") && !seen.contains("var") && seen.contains("build"), "{seen}");
    });
}

#[test]
fn unique_names_still_come_from_the_kernel() {
    each_caller(|world| {
        let seen = world.prints("cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/uuid");
        let lines: Vec<_> = seen.lines().collect();
        assert!(lines.len() == 2 && lines[0] != lines[1] && lines[0].len() == 36, "{seen}");
    });
}

#[test]
fn device_nodes_are_as_old_as_the_root_where_root_can_make_them() {
    if !rustix::process::geteuid().is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can make device nodes");
    }
    let world = World::new(support::Caller::Itself);
    let seen = world.prints(
        "stat -L -c '%Y %t:%T %n' /dev/null /dev/urandom; echo x >/dev/null; head -c 3 /dev/zero | wc -c",
    );
    assert_eq!(seen, format!("{ROOT_TIME} 1:3 /dev/null\n{ROOT_TIME} 1:9 /dev/urandom\n3\n"));
    assert_ne!(fs::metadata("/dev/null").unwrap().mtime(), i64::try_from(ROOT_TIME).unwrap());
}

/// Perl that prints what the calls answer: number and address as they are on this architecture.
fn calls(script: &str) -> String {
    let (uname, sysinfo, affinity) =
        if cfg!(target_arch = "x86_64") { (63, 99, 204) } else { (160, 179, 123) };
    format!("perl -e '$U={uname}; $S={sysinfo}; $A={affinity}; {script}'")
}

#[test]
fn system_calls_describe_the_machine_of_proc() {
    let script = calls(
        "$b = \"\\0\" x 112; syscall($S, $b) and die \"$!\"; ($up, @r) = unpack(\"Q*\", $b); print \"$up $r[3] \", $r[9] & 65535, \"\\n\"; \
         $b = \"\\0\" x 128; $n = syscall($A, 0, 128, $b); print unpack(\"%32b*\", substr $b, 0, $n), \"\\n\"; \
         $b = \"\\0\" x 390; syscall($U, $b) and die \"$!\"; print join(\"|\", unpack(\"(Z65)6\", $b)), \"\\n\";",
    );
    each_caller(|world| {
        let world = world.with(|spec| spec.limits.memory = Some(256 << 20));
        let machine = std::env::consts::ARCH;
        let seen = world.prints(&format!(
            "{script}; cat /proc/sys/kernel/osrelease; cat /proc/version; uname -n; uname -r"
        ));
        assert_eq!(
            seen,
            format!(
                "1000 {} 64\n2\nLinux|hab|5.11.0|#1 SMP|{machine}|(none)\n5.11.0\nLinux version 5.11.0 (hab@hab) #1 SMP\nhab\n5.11.0\n",
                256 << 20
            )
        );
        let other = in_other(world).prints(&script);
        assert_eq!(
            other,
            format!("777777 {} 65\n3\nLinux|hab|5.12.0|#2 SMP|{machine}|(none)\n", (256 << 20) + (16 << 20))
        );
    });
}

#[test]
fn a_call_with_a_bad_address_gets_the_kernels_own_answer() {
    each_caller(|world| {
        let seen = world.prints(&calls(
            "for $c ([$U, 8], [$S, 8], [$A, 0, 128, 8], [$A, 0, 3, 8], [$A, 0, 0, 8]) \
             { $! = 0; $r = syscall($c->[0], @$c[1..$#$c]); print \"$r \", $! + 0, \"\\n\"; }",
        ));
        assert_eq!(seen, "-1 14\n-1 14\n-1 14\n-1 22\n-1 22\n");
    });
}

#[test]
fn many_processes_at_a_time_get_their_answers() {
    each_caller(|world| {
        let seen = world.prints(
            "for n in 1 2 3 4 5 6 7 8; do (for m in 1 2 3 4 5 6 7 8 9 10; do uname -r; done) & done; wait",
        );
        assert_eq!(seen, "5.11.0\n".repeat(80));
    });
}

#[test]
fn the_callers_resource_limits_are_not_those_of_the_command() {
    each_caller(|world| {
        let show = "bash -c 'ulimit -H -l -i -q -e -r -v -d -m -t'";
        let world = world.script(show);
        let program = world.program(&[]);
        let mut shell = std::process::Command::new("/bin/bash");
        shell.args(["-c", "ulimit -S -l 64; ulimit -S -q 1000; ulimit -S -v 90000000; exec \"$@\"", "sh"]);
        shell.arg(program.get_program()).args(program.get_args());
        if world.caller == support::Caller::Normal {
            use std::os::unix::process::CommandExt;
            shell.uid(world.uid()).gid(world.uid());
        }
        let changed = world.finish(&shell.output().unwrap());
        assert_eq!(changed.status, 0, "{}", changed.stderr);
        assert_eq!(changed.stdout, world.run().stdout);
    });
}

#[test]
fn numbers_of_namespaces_and_devices_need_not_be_the_same_in_the_other_run() {
    let script =
        "for n in mnt uts ipc pid net cgroup; do readlink /proc/self/ns/$n; done; stat -c %d / /dev /tmp";
    each_caller(|world| {
        // The numbers are the lowest that are free, so what else goes on here can bring one back, and does.
        let mut same = vec![true; 9];
        for _ in 0..50 {
            let first = world.prints(script);
            let other = world.prints_varied([Vary::Numbers], script);
            let pairs = first.lines().zip(other.lines());
            same = same.iter().zip(pairs).map(|(same, (first, other))| *same && first == other).collect();
            if !same.contains(&true) {
                break;
            }
        }
        assert_eq!(same, [false; 9]);
    });
}

#[test]
fn the_decoy_of_the_other_run_ends_with_it() {
    each_caller(|world| {
        let world = in_other(world).script("true");
        assert_eq!(world.run().status, 0);
        let marker = world.path("hab-sandbox").display().to_string();
        support::eventually("no process of the run is left", || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            !processes.into_iter().any(|process| {
                fs::read_link(process.path().join("exe"))
                    .is_ok_and(|exe| exe.display().to_string().contains(&marker))
            })
        });
    });
}

#[test]
fn every_folder_lists_its_files_in_an_order_that_only_the_run_decides() {
    // Each made in another order; one of them is the root's own.
    let script = "for folder in /build/made /tmp/made /dev/shm; do mkdir -p $folder; cd $folder; \
        for n in $(seq 40); do : >$n; rm -f later-$n; done; ls -U; echo =; done; cd /usr/bin; ls -U; echo =; \
        for n in $(seq 40 -1 1); do : >/build/again-$n; done; cd /build; find . -name 'again-*'; echo =; \
        perl -e 'opendir my $d, \"/build/made\"; my @a = readdir $d; rewinddir $d; print \"$_\\n\" for readdir $d'";
    let seen = std::cell::RefCell::new(BTreeSet::new());
    each_volume(|world, volume| {
        let world = world.script(script).with(|spec| spec.limits.disk = Some(64 << 20));
        let list = |world: &World| {
            let finished = world.run_with(&["--volume", volume]);
            assert_eq!(finished.status, 0, "{volume} {}", finished.stderr);
            for left in ["work/volume", "work/volume.img"].map(|left| world.path(left)) {
                let _ = if left.is_dir() { fs::remove_dir_all(left) } else { fs::remove_file(left) };
            }
            finished.stdout
        };
        let forward = list(&world);
        let backward = list(&world.with(|spec| spec.varied = [Vary::Order].into_iter().collect()));
        for (one, other) in forward.split('=').zip(backward.split('=')) {
            let names = |text: &str| {
                let lines = text.lines().filter(|line| !matches!(*line, "" | "." | ".."));
                lines.map(str::to_owned).collect::<Vec<_>>()
            };
            let (one, mut other) = (names(one), names(other));
            assert!(one.len() >= 29, "{one:?}");
            assert_ne!(one, other);
            other.reverse();
            assert_eq!(one, other, "{volume}");
        }
        seen.borrow_mut().insert(forward);
    });
    assert_eq!(seen.borrow().len(), 1, "{seen:?}");
}

#[test]
fn programs_lie_at_random_places_or_always_at_the_same_ones() {
    let script = "for n in 1 2 3 4; do head -n 1 /proc/self/maps; done";
    each_caller(|world| {
        let places = |varied: &[Vary]| -> BTreeSet<String> {
            let text = world.prints_varied(varied.iter().copied(), script);
            text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        };
        assert!(places(&[]).len() > 1);
        assert_eq!(places(&[Vary::Addresses]).len(), 1);
    });
}

#[test]
fn who_calls_and_how_does_not_show() {
    let seen = std::cell::RefCell::new(BTreeSet::new());
    each_caller(|world| {
        let world = world.script(
            "cat /proc/self/uid_map /proc/self/gid_map; set -- $(cat /proc/self/stat); echo ${18} ${19}",
        );
        for nice in ["0", "7"] {
            let program = world.program(&[]);
            let mut nicer = std::process::Command::new("nice");
            nicer.args(["-n", nice]).arg(program.get_program()).args(program.get_args());
            if world.caller == support::Caller::Normal {
                use std::os::unix::process::CommandExt;
                nicer.uid(world.uid()).gid(world.uid());
            }
            let finished = world.finish(&nicer.output().unwrap());
            assert_eq!(finished.status, 0, "{}", finished.stderr);
            seen.borrow_mut().insert(finished.stdout);
        }
    });
    let seen = seen.into_inner();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let words: Vec<_> = seen.first().unwrap().split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["1000", "1000", "1", "1000", "1000", "1", "39", "19"]);
}

#[test]
fn a_programs_own_tests_have_terminals_and_a_loopback_interface() {
    each_caller(|world| {
        let seen = world.prints(
            "perl -e '$here = \"\\x7f\\0\\0\\1\"; socket(L, 2, 1, 0) && bind(L, pack(\"S n a4 x8\", 2, 0, $here)) && listen(L, 1) \
             or die \"no listener: $!\"; (undef, $port) = unpack(\"S n\", getsockname(L)); socket(C, 2, 1, 0); \
             connect(C, pack(\"S n a4 x8\", 2, $port, $here)) or die \"no connection: $!\"; print \"connected\\n\"; \
             open(my $terminal, \"+<\", \"/dev/ptmx\") or die \"no terminal: $!\"; print \"opened\\n\"'; ls /dev/pts",
        );
        assert_eq!(seen, "connected\nopened\nptmx\n");
    });
}
