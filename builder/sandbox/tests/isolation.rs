//! What a command can learn of the host and do to it: nothing.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};

use hab_sandbox::Vary;

use support::each_caller;

#[test]
fn accounts_and_folders_of_the_host_are_not_there() {
    let host = std::fs::read_to_string("/etc/passwd").unwrap();
    each_caller(|world| {
        let folder = world.path("");
        let seen = world.prints(&format!(
            "cat /etc/passwd; test ! -e {} || echo VISIBLE; ls -a /tmp /dev/shm; test ! -e /sys || echo VISIBLE; \
             test ! -e /home || echo VISIBLE",
            folder.display()
        ));
        assert!(seen.contains("build:x:1000:1000:"), "{seen}");
        assert!(!seen.contains(&host) && !seen.contains("VISIBLE"), "{seen}");
        assert!(seen.contains("/tmp:\n.\n..\n"), "{seen}");
    });
}

#[test]
fn there_is_no_network_but_a_loopback_interface_that_leads_to_nobody_outside() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("hab-sandbox-test-{}", std::process::id());
    let _local = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    each_caller(|world| {
        let seen = world.prints(&format!(
            "cd /proc/self/net; cat dev route if_inet6
            (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo REACHED
            bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2>&1
            perl -e 'socket(S, 1, 1, 0) or die; print connect(S, pack(\"S a*\", 1, \"\\0{name}\")) ? \"REACHED\" : \"no local: $!\"; \
                     socket(T, 2, 1, 0) or die; $f = pack(\"a16 x24\", \"lo\"); ioctl(T, 0x8913, $f) or die; \
                     print unpack(\"x16 S\", $f) & 1 ? \" lo is up\" : \"\"'"
        ));
        assert!(!seen.contains("REACHED"), "{seen}");
        assert!(seen.contains("lo is up") && seen.contains("no local: "), "{seen}");
        assert!(seen.contains("Connection refused"), "{seen}");
        let interfaces =
            seen.lines().filter_map(|line| line.split_once(": ")).filter(|(_, rest)| rest.starts_with("  "));
        assert_eq!(interfaces.map(|(name, _)| name.trim()).collect::<Vec<_>>(), ["lo"], "{seen}");
    });
}

#[test]
fn only_its_own_processes_are_visible() {
    each_caller(|world| {
        let seen = world.prints("cd /proc; for p in [0-9]*; do cat $p/comm; done; echo; cat 1/cmdline");
        let (names, first) = seen.split_once("\n\n").unwrap();
        let mut names: Vec<_> = names.lines().collect();
        names.sort_unstable();
        assert_eq!(names, ["init", "sh"], "{seen}");
        assert!(!first.contains('/'), "{seen}");
    });
}

#[test]
fn process_1_is_a_program_of_the_host_and_keeps_its_secrets() {
    each_caller(|world| {
        let seen = world.prints(
            "cd /proc/1; for f in environ maps mem auxv fd/0; do cat $f; done; readlink exe cwd; ls fd; true",
        );
        assert_eq!(seen, "");
    });
}

#[test]
fn the_command_has_no_privileges() {
    each_caller(|world| {
        let status = world.prints("cat /proc/self/status");
        let value = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).unwrap_or_default().to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(value(set), "0000000000000000", "{set}");
        }
        assert_eq!((value("NoNewPrivs:").as_str(), value("Seccomp:").as_str()), ("1", "2"));
        assert_eq!((value("Uid:").as_str(), value("Gid:").as_str()), ("1000", "1000"));
    });
}

#[test]
fn dangerous_system_calls_are_refused() {
    let calls = if cfg!(target_arch = "x86_64") {
        // Name, number, arguments, and the answer (errno(3)).
        "mount 165 0,0,0,0,0 1\numount2 166 0,0 1\npivot_root 155 0,0 1\nunshare 272 268435456 1\nunshare0 272 0 1\n\
         setns 308 0,0 1\nclone_user 56 268435456,0,0,0,0 1\nclone_net 56 1073741824,0,0,0,0 1\nclone3 435 0,0 38\n\
         keyctl 250 0,0,0,0,0 1\nbpf 321 0,0,0 1\nperf 298 0,0,0,0,0 1\nuserfaultfd 323 0 1\nio_uring 425 0,0 1\n\
         ptrace 101 0,0,0,0 1\nby_handle 304 0,0,0 1\npersonality 135 262144 1\nchroot 161 0 1\nclock 227 0,0 1\n\
         quotactl_fd 443 0,0,0,0 1\nopen_tree_attr 467 0,0,0,0,0 1\nx32_mount 1073741989 0,0,0,0,0 38\n\
         netlink 41 16,3,0 97\npacket 41 17,3,0 97\nvsock 41 40,1,0 97\nalg 41 38,5,0 97"
    } else {
        "mount 40 0,0,0,0,0 1\nunshare 97 268435456 1\nclone_user 220 268435456,0,0,0,0 1\nclone3 435 0,0 38\n\
         bpf 280 0,0,0 1\nptrace 117 0,0,0,0 1\nnetlink 198 16,3,0 97"
    };
    each_caller(|world| {
        let script = calls.lines().map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let arguments: Vec<_> = words[2].split(',').map(|word| format!("0+{word}")).collect();
            format!(
                "$!=0; $r=syscall({},{}); $e=$!+0; print \"{} $r $e\\n\";",
                words[1],
                arguments.join(","),
                words[0]
            )
        });
        let seen = world.prints(&format!("perl -e '{}'", script.collect::<String>()));
        let expected: Vec<_> = calls
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .map(|words| format!("{} -1 {}", words[0], words[3]))
            .collect();
        assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
    });
}

#[test]
fn names_variables_and_umask_are_the_specs_and_the_same_everywhere() {
    each_caller(|world| {
        let world = world.with(|spec| {
            spec.umask = 0o027;
            spec.cwd = "/build".into();
            spec.env.insert("SOURCE_DATE_EPOCH".to_owned(), "1".to_owned());
        });
        let seen = world.prints(
            "hostname; umask; pwd; env | grep -v ^PWD= | grep -v ^_= | LC_ALL=C perl -e 'print sort <>'",
        );
        let expected = "hab\n0027\n/build\nHOME=/build\nLANG=C.UTF-8\nLC_ALL=C.UTF-8\n\
                        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nSOURCE_DATE_EPOCH=1\nTZ=UTC\nUSER=build\n";
        assert_eq!(seen, expected);
    });
}

#[test]
fn nothing_the_caller_has_open_is_passed_on_and_standard_input_is_empty() {
    each_caller(|world| {
        let world = world.script(
            "for f in /proc/self/fd/*; do test -e $f && echo ${f##*/}; done; readlink /proc/self/fd/0; wc -c",
        );
        let direct = world.program(&[]);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "exec 7</etc/passwd 8</; echo secret | \"$@\"", "sh"]).arg(direct.get_program());
        shell.args(direct.get_args()).stdin(Stdio::null());
        if world.caller == support::Caller::Normal {
            use std::os::unix::process::CommandExt;
            shell.uid(world.uid()).gid(world.uid());
        }
        let finished = world.finish(&shell.output().unwrap());
        assert_eq!(finished.stdout, "0\n1\n2\n/dev/null\n0\n", "{}", finished.stderr);
    });
}

#[test]
fn the_time_since_boot_can_be_moved() {
    each_caller(|world| {
        let world = world.with(|spec| spec.varied = [Vary::Uptime].into_iter().collect());
        // When it started, by the clock that is moved, in hundredths of a second.
        let world = world.script("cat /proc/self/stat");
        let finished = world.run();
        let started: f64 =
            finished.stdout.rsplit(')').next().unwrap().split(' ').nth(20).unwrap().parse().unwrap();
        let report = finished.report.unwrap();
        assert_eq!(report.clock_shifted, started > 1_000_000_000.0, "{}", finished.stdout);
    });
}
