//! A command that wants too much is stopped, and the report says what it was.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use hab_sandbox::{Limit, Outcome, Spec};
use support::{World, each_caller};

/// Runs a script that would go on for long, and returns the outcome once it was stopped.
fn stopped(world: World, script: &str, change: impl FnOnce(&mut Spec)) -> (Outcome, String) {
    let world = world.with(change).script(script);
    let begun = Instant::now();
    let finished = world.run();
    assert!(begun.elapsed() < Duration::from_secs(30), "too late");
    let report = finished.report.unwrap_or_else(|| panic!("no report: {}", finished.stderr));
    (report.outcome, finished.stderr)
}

#[test]
fn a_fork_bomb_is_stopped_by_the_process_limit() {
    each_caller(|world| {
        let script = "exec perl -e 'fork while 1'";
        let (outcome, told) = stopped(world, script, |spec| spec.limits.processes = Some(60));
        assert_eq!(outcome, Outcome::LimitExceeded(Limit::Processes(60)));
        assert!(
            told.contains("the command was stopped: it ran more than 60 processes at one time"),
            "{told}"
        );
    });
}

#[test]
fn a_memory_hog_is_stopped() {
    each_caller(|world| {
        // Without a line end in its input, tail keeps all of it.
        let script = "head -c 2000000000 /dev/zero | tail";
        let (outcome, told) = stopped(world, script, |spec| spec.limits.memory = Some(100 << 20));
        assert_eq!(outcome, Outcome::LimitExceeded(Limit::Memory(100 << 20)));
        assert!(told.contains("more than 100 MiB of memory"), "{told}");
    });
}

#[test]
fn files_in_memory_count_as_memory() {
    each_caller(|world| {
        let script = "dd if=/dev/zero of=/tmp/x bs=1M count=200 2>/dev/null; sleep 60";
        let (outcome, _) = stopped(world, script, |spec| spec.limits.memory = Some(100 << 20));
        assert_eq!(outcome, Outcome::LimitExceeded(Limit::Memory(100 << 20)));
    });
}

#[test]
fn memory_shared_by_many_processes_is_counted_once() {
    each_caller(|world| {
        let script =
            "perl -e '$x = \"x\" x 40000000; for (1..8) { next if fork; sleep 2; exit } 1 while wait > 0'";
        let world = world.with(|spec| spec.limits.memory = Some(150 << 20)).script(script);
        let finished = world.run();
        assert_eq!(finished.status, 0, "{}", finished.stderr);
    });
}

#[test]
fn a_disk_hog_is_stopped() {
    each_caller(|world| {
        let script =
            "while dd if=/dev/zero of=/build/$((n += 1)) bs=1M count=5 2>/dev/null; do sleep 0.05; done";
        let (outcome, told) = stopped(world, script, |spec| spec.limits.disk = Some(50 << 20));
        assert_eq!(outcome, Outcome::LimitExceeded(Limit::Disk(50 << 20)));
        assert!(told.contains("more than 50 MiB of disk space"), "{told}");
    });
}

#[test]
fn too_much_disk_is_found_when_the_command_ended_before_a_sample() {
    each_caller(|world| {
        let script = "dd if=/dev/zero of=/build/x bs=1M count=20 2>/dev/null";
        let (outcome, _) = stopped(world, script, |spec| spec.limits.disk = Some(10 << 20));
        assert_eq!(outcome, Outcome::LimitExceeded(Limit::Disk(10 << 20)));
    });
}

#[test]
fn a_file_that_grows_too_large_ends_the_command() {
    each_caller(|world| {
        let script = "exec dd if=/dev/zero of=/build/x bs=1M count=20";
        let (outcome, _) = stopped(world, script, |spec| spec.limits.file_size = Some(10 << 20));
        assert_eq!(outcome, Outcome::LimitExceeded(Limit::FileSize(10 << 20)));
    });
}

#[test]
fn a_command_that_takes_too_long_is_stopped() {
    each_caller(|world| {
        let wall = Duration::from_millis(300);
        let (outcome, told) = stopped(world, "echo begun; sleep 60", |spec| spec.limits.wall = Some(wall));
        assert_eq!(outcome, Outcome::LimitExceeded(Limit::Wall(wall)));
        assert!(told.contains("it ran longer than 300ms"), "{told}");
    });
}

#[test]
fn a_command_that_prints_too_much_is_stopped() {
    each_caller(|world| {
        let script = "while :; do echo again and again; done";
        let (outcome, _) = stopped(world, script, |spec| spec.limits.log = Some(100_000));
        assert_eq!(outcome, Outcome::LimitExceeded(Limit::Log(100_000)));
    });
}

#[test]
fn the_report_says_what_was_used() {
    each_caller(|world| {
        let script = "perl -e '$x = \"x\" x 50000000; $n = time; 1 while time < $n + 2'";
        let world = world.script(script);
        let report = world.run().report.unwrap();
        assert_eq!(report.outcome, Outcome::Exited(0));
        assert!(report.peak_memory > 50_000_000 && report.peak_memory < 200_000_000, "{report:?}");
        assert!(
            report.wall >= Duration::from_secs(1) && report.cpu_user > Duration::from_millis(100),
            "{report:?}"
        );
        assert!(report.cpu_user <= report.wall * 2, "{report:?}");
    });
}

#[test]
fn open_files_are_limited() {
    each_caller(|world| {
        let world = world.with(|spec| spec.limits.open_files = 40);
        assert_eq!(world.prints("ulimit -n; ulimit -c; ulimit -s"), "40\n0\n8192\n");
    });
}
