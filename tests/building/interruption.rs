//! After Ctrl-C, kill -9 or a full disk nothing stays mounted or half-written, and the next run continues.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::harness::{GOOD, Outcome, World};

/// A length of sleep that marks this world's processes: no other command line on this machine has it.
fn mark(world: &World) -> String {
    let folder = world.path("data").display().to_string();
    let number = folder.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("86399.{number:010}")
}

/// Starts a build that sleeps, and waits until it sleeps.
fn sleeping(world: &World) -> Child {
    world.recipe("hello", &format!("{GOOD}sleep {}\n", mark(world)));
    let child = world.start("data", &["hello", "--platform", "linux/amd64"]);
    wait_until("the build sleeps", || sleepers(world) > 0);
    child
}

/// The number of processes of this world's build.
fn sleepers(world: &World) -> usize {
    let mark = mark(world);
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|p| {
            let read = |name: &str| fs::read(p.path().join(name)).unwrap_or_default();
            let contains = |bytes: &[u8], word: &str| bytes.windows(word.len()).any(|w| w == word.as_bytes());
            contains(&read("cmdline"), &mark)
        })
        .count()
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn nothing_is_left(world: &World) {
    wait_until("the build's processes are gone", || sleepers(world) == 0);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let folder = world.path("data").display().to_string();
    assert!(!mounts.contains(&folder), "{mounts}");
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn ctrl_c_stops_cleanly_and_the_next_run_goes_on() {
    let world = World::new();
    let child = sleeping(&world);
    signal(&child, "-INT");
    let outcome = Outcome::of(&child.wait_with_output().unwrap());
    outcome.refused(130, &["stopped"]);
    nothing_is_left(&world);
    assert!(crate::harness::files_below(&world.path("data/work/builds")).is_empty());
    world.recipe("hello", GOOD);
    let before = world.server.requests().0;
    world.build("data", "hello").good();
    // Only InRelease is fetched again, packages are not.
    assert!(world.server.requests().0 - before <= 1);
}

#[test]
fn a_kill_leaves_nothing_running_and_nothing_served() {
    let world = World::new();
    let mut child = sleeping(&world);
    signal(&child, "-KILL");
    child.wait().unwrap();
    nothing_is_left(&world);
    world.recipe("hello", GOOD);
    world.build("data", "hello").good();
}

#[test]
fn a_kill_while_fetching_keeps_what_came() {
    let world = World::new();
    let package = world.server.get("pool/tools.deb").unwrap();
    world.server.stall("pool/tools.deb", true);
    let mut child = world.start("data", &["hello", "--platform", "linux/amd64"]);
    let halves = || crate::harness::files_below(&world.path("data/work/partial"));
    wait_until("half of the package is here", || halves().values().any(|b| b.len() == package.len() / 2));
    signal(&child, "-KILL");
    child.wait().unwrap();
    world.server.stall("pool/tools.deb", false);
    let (_, ranges) = world.server.requests();
    world.build("data", "hello").good();
    assert_eq!(world.server.requests().1, ranges + 1, "only the other half was asked for");
    assert!(halves().is_empty());
}

#[test]
fn a_second_build_in_the_same_folder_waits_for_the_first() {
    let world = World::new();
    world.recipe("hello", &format!("{GOOD}sleep 2\n"));
    let first = world.start("data", &["hello", "--platform", "linux/amd64", "--json"]);
    let second = world.start("data", &["hello", "--platform", "linux/amd64", "--json"]);
    let outcomes = [first, second].map(|c| Outcome::of(&c.wait_with_output().unwrap()).good());
    assert_eq!(outcomes[0].index(), outcomes[1].index());
}

#[test]
fn a_full_disk_is_a_sentence_and_the_next_run_goes_on() {
    if !crate::harness::is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can mount a small disk");
    }
    let world = World::new();
    let data = world.path("data");
    fs::create_dir(&data).unwrap();
    let mount = |options: &str| {
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&data).status().unwrap();
        assert!(status.success());
    };
    mount("size=3m");
    let outcome = world.build("data", "hello");
    // With room again, stored files are used and the others are fetched.
    mount("remount,size=500m");
    let again = world.build("data", "hello");
    let status = Command::new("umount").arg(&data).status().unwrap();
    outcome.refused(1, &["space"]);
    again.good();
    assert!(status.success());
}
