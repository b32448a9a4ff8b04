//! A volume of its own size: what is in it before and after a run, and that nothing of it stays.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::io::Read;

use support::{Caller, World, each_volume, eventually, start};

const DISK: u64 = 64 << 20;

fn world_with_limit(world: World) -> World {
    world.with(|spec| spec.limits.disk = Some(DISK))
}

/// Files below loop devices, of this world.
fn images_in_use(world: &World) -> usize {
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let files = devices.filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok());
    let own = world.path("work").display().to_string();
    files.filter(|file| file.starts_with(&own)).count()
}

#[test]
fn what_a_command_wrote_to_a_volume_is_read_after_the_run() {
    each_volume(|world, volume| {
        let world = world_with_limit(world);
        let kept = world.path("work/kept").display().to_string();
        let script = "cd /build; ls -A; mkdir out; echo made >out/file; ln -s /etc out/link; chmod 0 out; stat -f -c %i .";
        let world = world.script(script);
        let finished = world.run_with(&["--volume", volume, "--keep", &kept]);
        assert_eq!(finished.status, 0, "{volume} {}", finished.stderr);
        assert_eq!(finished.stdout.lines().count(), 1, "it is empty at first: {}", finished.stdout);
        // Root can read everything; a normal user opens the folder up, as removal does.
        if rustix::process::geteuid().is_root() && world.caller == Caller::Itself {
            assert_eq!(fs::read_to_string(world.path("work/kept/out/file")).unwrap(), "made\n", "{volume}");
        }
        eventually("the loop device to let go", || images_in_use(&world) == 0);
    });
}

#[test]
fn a_volume_is_writable_to_the_limit_and_to_the_command_alone() {
    each_volume(|world, volume| {
        let world = world_with_limit(world);
        // Where files are counted, so is what the host's file system sets aside for one that grows: up to its size again.
        let count = if volume == "counted" { 30 } else { 60 };
        let script = format!(
            "dd if=/dev/zero of=/build/x bs=1M count={count} 2>/dev/null && stat -c %U /build /build/x"
        );
        let world = world.script(&script);
        let finished = world.run_with(&["--volume", volume]);
        assert_eq!(
            (finished.status, finished.stdout.as_str()),
            (0, "build\nbuild\n"),
            "{volume} {}",
            finished.stderr
        );
    });
}

#[test]
fn a_command_that_fills_a_volume_at_once_is_stopped_by_its_disk_limit() {
    each_volume(|world, volume| {
        let world = world_with_limit(world);
        let finished = world.script("cat /dev/zero >/build/x; echo no room").run_with(&["--volume", volume]);
        let told = format!("{volume} {} {}", finished.stdout, finished.stderr);
        assert_eq!(finished.status, 124, "{told}");
        assert!(finished.stderr.contains("more than 64 MiB of disk space"), "{told}");
    });
}

#[test]
fn no_mount_and_no_loop_device_stays_when_the_caller_is_killed() {
    each_volume(|world, volume| {
        let world = world_with_limit(world).script("echo ready; sleep 60");
        let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts();
        let mut child = start(world.program(&["--volume", volume]));
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        assert_eq!(mounts(), before, "the host must not see it");
        assert_eq!(images_in_use(&world), usize::from(volume == "image"));
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("the loop device to let go", || images_in_use(&world) == 0);
        assert_eq!(mounts(), before);
    });
}

#[test]
fn a_full_disk_of_the_host_is_told_apart_from_the_limit() {
    if !rustix::process::geteuid().is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can mount a small disk");
    }
    for volume in ["image", "counted"] {
        let world =
            world_with_limit(World::new(Caller::Itself)).with(|spec| spec.limits.disk = Some(1 << 30));
        let disk = world.path("work");
        let run = |program: &str, words: &[&str]| {
            let status = std::process::Command::new(program).args(words).arg(&disk).status().unwrap();
            assert!(status.success(), "{program}");
        };
        run("mount", &["-t", "tmpfs", "-o", "size=200M,mode=755", "small"]);
        world.give_away(&disk);
        let finished = world.script("cat /dev/zero >/build/x; sleep 20").run_with(&["--volume", volume]);
        run("umount", &["-l"]);
        assert_eq!(finished.status, 124, "{volume} {}", finished.stderr);
        assert!(finished.stderr.contains("the disk of this machine is full"), "{volume} {}", finished.stderr);
    }
}
