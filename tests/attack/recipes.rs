//! A hostile recipe's script in the sandbox.

use std::fs;
use std::process::Command;

use crate::harness::{self, GOOD, World};

/// Folders nested deeper than any path is long.
const CHAIN: &str = "cd $WORK; mkdir -p $(printf 'd/%.0s' $(seq 3000)); cd $HOME; \
                     mkdir -p $(printf 'd/%.0s' $(seq 2100)); cd /build\n";

fn work(world: &World) -> Vec<std::path::PathBuf> {
    harness::files_below(&world.path("data/work/builds")).into_keys().collect()
}

/// This world's file systems that are mounted on the host, and its files behind loop devices.
fn left_on_the_host(world: &World) -> Vec<String> {
    let own = world.path("").display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<_> = mounts.lines().filter(|line| line.contains(&own)).map(str::to_owned).collect();
    for device in fs::read_dir("/sys/block").unwrap().flatten() {
        let below = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if below.contains(&own) {
            found.push(below);
        }
    }
    found
}

#[test]
fn a_chain_of_3000_folders_is_removed_and_the_plan_can_be_tried_again() {
    let world = World::new();
    let chained = format!("{GOOD}{CHAIN}");
    world.recipe("hello", &format!("{chained}exit 3\n"));
    for _ in 0..2 {
        let built = world.build("data", "hello");
        built.refused(3, &["exit status 3"]);
        assert!(left_on_the_host(&world).is_empty(), "{:?}", left_on_the_host(&world));
    }
    world.recipe("hello", &chained);
    world.build("data", "hello").good();
    world.recipe("hello", &format!("{chained}echo again >$OUT/etc/again\n"));
    world.build("data", "hello").good();
    let left = work(&world);
    assert!(left.iter().all(|path| !path.ends_with("leaf")), "{left:?}");
}

#[test]
fn a_script_that_writes_more_than_its_disk_limit_is_told_so_and_leaves_nothing_mounted() {
    let world = World::new();
    world.recipe("hello", &format!("{GOOD}cat /dev/zero >$WORK/a & cat /dev/zero >$WORK/b & wait; exit 0\n"));
    world.build("data", "hello").refused(3, &["more than 256 MiB of disk space"]);
    assert!(left_on_the_host(&world).is_empty(), "{:?}", left_on_the_host(&world));
}

#[test]
fn a_script_that_makes_more_empty_files_than_its_disk_has_room_for_is_told_so() {
    let world = World::new();
    let script = "cd $WORK; for i in $(seq 60); do seq $((i * 1000)) $((i * 1000 + 999)) | { mkdir $i; cd $i; \
                  while read -r n; do >$n; done; }; done; exit 0\n";
    world.recipe("hello", &format!("{GOOD}{script}"));
    world.build("data", "hello").refused(3, &["files and folders"]);
}

#[test]
fn folders_closed_by_a_script_do_not_keep_its_plan_from_being_built_again() {
    let world = World::new();
    let script = format!("{GOOD}umask 777; mkdir -p $WORK/closed $HOME/closed; umask 022; exit 3\n");
    world.recipe("hello", &script);
    for _ in 0..2 {
        world.build("data", "hello").refused(3, &["exit status 3"]);
    }
}

#[test]
fn a_build_that_is_killed_leaves_no_mount_no_loop_device_and_no_control_group() {
    let world = World::new();
    let length = format!("77.{}", std::process::id());
    world.recipe("hello", &format!("{GOOD}sleep {length}\n"));
    let mut child = world.start("data", &["hello", "--platform", "linux/amd64"]);
    let begun = std::time::Instant::now();
    let asleep = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.into_iter().any(|line| line == format!("sleep\0{length}\0").as_bytes())
    };
    while !asleep() {
        assert!(begun.elapsed().as_secs() < 60, "the script did not begin");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let pid = child.id();
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = std::time::Instant::now();
    while !left_on_the_host(&world).is_empty() {
        assert!(begun.elapsed().as_secs() < 20, "{:?}", left_on_the_host(&world));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // The next run removes the control group of a run that was killed.
    world.recipe("hello", GOOD);
    world.build("data", "hello").good();
    let groups = Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("hab-run-{pid}-*")]).output();
    assert_eq!(String::from_utf8_lossy(&groups.unwrap().stdout), "");
}
