//! Nothing of a run outlives it, however it ends.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hab_sandbox::{Launcher, Outcome, Stream, run};
use support::{Caller, World, each_caller, eventually, start};

/// A length of sleep that no other process on this machine has, to find it by.
fn unique(index: u32) -> String {
    format!("{}.{:03}{index}", 70, std::process::id() % 1000)
}

fn is_running(length: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()).any(|line| {
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|name| name.ends_with(b"sleep")) && words.next() == Some(length.as_bytes())
    })
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn what_a_command_leaves_in_the_background_ends_with_it() {
    each_caller(|world| {
        let length = unique(world.uid() % 7);
        let world = world.script(&format!(
            "(setsid sleep {length} >/dev/null 2>&1 &) ; (sleep {length} &) ; echo done; exit 3"
        ));
        let begun = Instant::now();
        let finished = world.run();
        assert_eq!((finished.status, finished.stdout.as_str()), (3, "done\n"), "{}", finished.stderr);
        assert!(!is_running(&length) && begun.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn orphans_are_reaped_while_the_command_runs() {
    each_caller(|world| {
        let seen = world.prints(
            "for i in 1 2 3 4; do (true &); done; sleep 0.3; ps -e -o stat=,comm= | grep -c ^Z; true",
        );
        assert_eq!(seen, "0\n");
    });
}

#[test]
fn a_run_can_be_cancelled() {
    each_caller(|world| {
        let length = unique(10 + world.uid() % 7);
        let world = world.script(&format!("echo ready; sleep {length}"));
        let mut program = world.program(&["--cancel-on-eof"]);
        program.stdin(Stdio::piped());
        let mut child = start(program);
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        let begun = Instant::now();
        drop(child.stdin.take());
        let finished = world.finish(&child.wait_with_output().unwrap());
        assert_eq!(finished.report.unwrap().outcome, Outcome::Cancelled);
        assert!(!is_running(&length) && begun.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn a_run_that_is_cancelled_before_it_begins_leaves_nothing() {
    let world = World::new(Caller::Itself).script("sleep 60");
    let report = run(&launcher(&world), &world.spec, &mut |_, _| {}, &AtomicBool::new(true)).unwrap();
    assert_eq!(report.outcome, Outcome::Cancelled);
}

#[test]
fn killing_the_caller_at_any_time_leaves_no_process_and_no_mount() {
    each_caller(|world| {
        let length = unique(20 + world.uid() % 7);
        let world = world.script(&format!("setsid sleep {length} >/dev/null 2>&1 & sleep {length}"));
        let before = mounts();
        for delay in [0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 100] {
            let mut child = start(world.program(&[]));
            let pid = child.id();
            std::thread::sleep(Duration::from_millis(delay));
            child.kill().unwrap();
            child.wait().unwrap();
            // The helper's command line is its own; what it starts is found by its length of sleep.
            eventually(&format!("the sandbox of {pid} to end, killed after {delay} ms"), || {
                !is_running(&length) && helpers_of(&world) == 0
            });
        }
        assert_eq!(mounts(), before);
    });
}

/// Processes whose program is this world's copy, which no other test runs.
fn helpers_of(world: &World) -> usize {
    let program = world.path("hab-sandbox");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program)).count()
}

#[test]
fn a_panic_in_the_callers_callback_ends_the_run() {
    let length = unique(30);
    let world = World::new(Caller::Itself).script(&format!("echo now; sleep {length}"));
    let mut angry = |_: Stream, bytes: &[u8]| assert!(bytes.is_empty(), "as the test wants");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(&launcher(&world), &world.spec, &mut angry, &AtomicBool::new(false))
    }));
    assert!(panicked.is_err());
    eventually("the command to end", || !is_running(&length));
}

#[test]
fn the_run_ends_with_the_thread_that_called_it_or_before() {
    let world = World::new(Caller::Itself).script("echo one; echo two >&2");
    let cancel = AtomicBool::new(false);
    let heard = std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let mut heard = Vec::new();
            let mut listen = |stream, bytes: &[u8]| {
                if !bytes.is_empty() {
                    heard.push((stream, bytes.to_vec()));
                }
            };
            let report = run(&launcher(&world), &world.spec, &mut listen, &cancel).unwrap();
            assert!(report.outcome.success());
            heard
        });
        caller.join().unwrap()
    });
    cancel.store(true, Ordering::Relaxed);
    assert!(heard.contains(&(Stream::Stdout, b"one\n".to_vec())), "{heard:?}");
    assert!(heard.contains(&(Stream::Stderr, b"two\n".to_vec())), "{heard:?}");
}

fn launcher(world: &World) -> Launcher {
    Launcher::at(world.path("hab-sandbox"))
}
