//! Recipes that write facts about the machine into their outputs: the two runs differ, or the fact is hidden.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::harness::{self, GOOD, Outcome, USER, World, is_root};

/// Builds a recipe whose output is what `script` prints.
fn build(world: &World, script: &str) -> Outcome {
    world.recipe("hello", &format!("{GOOD}( {script} ) >$OUT/etc/fact\n"));
    world.build("data", "hello")
}

/// The fact that both runs of a finished build agreed on.
fn fact(world: &World, built: &Outcome) -> String {
    let outputs = built.json["platforms"][0]["outputs"].to_string();
    assert!(outputs.contains("etc/fact"), "{outputs}");
    // Read the fact from the log, which is stored as it is: the outputs are in a compressed layer.
    let log =
        built.json["platforms"][0]["runs"]["logs"][0].as_str().unwrap().parse::<hab_oci::Digest>().unwrap();
    let hex = log.hex();
    fs::read_to_string(world.path(&format!("data/blobs/sha256/{}/{hex}", &hex[..2]))).unwrap()
}

/// One test for each fact that differs between the runs.
macro_rules! found_by_the_second_run {
    ($($name:ident: $script:expr;)*) => {$(
        #[test]
        fn $name() {
            let world = World::new();
            build(&world, $script).refused(5, &["not reproducible", "etc/fact"]);
        }
    )*};
}

found_by_the_second_run! {
    the_number_of_processors_in_an_output_is_found: "while read -r a b; do case $a in cpu*) echo $a;; esac; done </proc/stat";
    the_start_of_the_machine_in_an_output_is_found: "while read -r a b; do case $a in btime) echo $b;; esac; done </proc/stat";
    the_inode_number_of_a_folder_of_tools_in_an_output_is_found: "ls -di /usr/bin/../bin /usr/lib64/ld-linux-x86-64.so.2";
}

#[test]
fn nothing_that_names_this_machine_is_below_proc_or_sys() {
    let world = World::new();
    let paths = "/proc/config.gz /proc/pressure/cpu /proc/cmdline /proc/modules /proc/interrupts /proc/partitions \
                 /proc/crypto /proc/self/mountinfo /proc/mounts /proc/version_signature /proc/zoneinfo /proc/vmstat /sys/*";
    let script = format!(
        "for f in {paths}; do echo \"$f:\"; [ ! -e \"$f\" ] || cat \"$f\"; done >/build/work/seen; \
         cat /build/work/seen; cat /build/work/seen >&2"
    );
    let built = build(&world, &script);
    let built = built.good();
    let seen = fact(&world, &built);
    for file in ["/proc/modules", "/proc/partitions", "/proc/cmdline"] {
        let host = fs::read_to_string(file).unwrap_or_default();
        assert!(
            host.lines().filter(|line| line.len() > 20).all(|line| !seen.contains(line)),
            "{file}: {seen}"
        );
    }
    assert!(!seen.contains("lowerdir") && !seen.contains("/builds/"), "{seen}");
}

#[test]
fn two_machines_of_different_names_and_disks_get_the_same_index() {
    let world = World::new();
    let script = "cat /proc/filesystems /proc/mounts /proc/cgroups /proc/swaps /proc/sys/vm/* /proc/sys/fs/* \
                  /proc/sys/kernel/hostname /proc/sys/kernel/ostype; ls -l --full-time /usr/bin/cat";
    let first = build(&world, script).good().index();
    let other = world.run("elsewhere/data", &["hello", "--platform", "linux/amd64", "--json"]).good();
    assert_eq!(other.index(), first);
}

fn roots(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.path("data/roots")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.join("usr/bin/cat").is_file()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn nobody_else_reaches_roots_and_work() {
    let world = World::new();
    for folder in ["data/roots", "data/work/builds"] {
        fs::create_dir_all(world.path(folder)).unwrap();
        fs::set_permissions(world.path(folder), fs::Permissions::from_mode(0o777)).unwrap();
    }
    world.build("data", "hello").good();
    for folder in ["data/roots", "data/work", "data/work/builds"] {
        assert_eq!(mode(&world.path(folder)), 0o700, "{folder}");
    }
}

#[test]
fn a_toolchain_that_was_changed_is_set_aside_said_and_made_anew() {
    let world = World::new();
    let index = world.build("data", "hello").good().index();
    for at in 0..2 {
        let root = roots(&world).remove(at);
        // Change a file as somebody who broke out of an earlier build would: same size, and the time restored.
        let tool = root.join("usr/bin/cat");
        let before = fs::metadata(&tool).unwrap();
        let mut bytes = fs::read(&tool).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&tool, bytes).unwrap();
        fs::File::options()
            .write(true)
            .open(&tool)
            .unwrap()
            .set_modified(before.modified().unwrap())
            .unwrap();
        world.recipe("hello", &format!("{GOOD}# {at}\n"));
        let built = world.build("data", "hello").good();
        assert_eq!(built.index(), index);
        for word in ["was not used", "usr/bin/cat is not what was unpacked", "set aside", "made anew"] {
            assert!(built.stderr.contains(word), "no {word:?} in: {}", built.stderr);
        }
        assert!(world.path("data/roots/aside").is_dir());
    }
    assert_eq!(fs::read_dir(world.path("data/roots/aside")).unwrap().count(), 2);
}

#[test]
fn a_folder_that_somebody_put_in_the_place_of_a_toolchain_is_not_used() {
    let world = World::new();
    world.build("data", "hello").good();
    let place = roots(&world).remove(0);
    fs::remove_dir_all(world.path("data/roots")).unwrap();
    fs::create_dir_all(place.join("usr/bin")).unwrap();
    fs::write(place.join("usr/bin/bash"), "#!/not/what/was/unpacked\n").unwrap();
    world.recipe("hello", &format!("{GOOD}# again\n"));
    let built = world.build("data", "hello").good();
    assert!(built.stderr.contains("it has no seal"), "{}", built.stderr);
}

#[test]
fn a_data_folder_of_a_user_works_for_root_too() {
    if !is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can become another user");
    }
    let world = World::new();
    let index = world.build_as_user("data", "hello").good().index();
    world.recipe("hello", &format!("{GOOD}# as root\n"));
    assert_eq!(world.build("data", "hello").good().index(), index);
    assert_eq!(mode(&world.path("data/roots.0")), 0o700);
    // The user's roots still belong to the user.
    assert_eq!(fs::metadata(world.path("data/roots")).unwrap().uid(), USER);
}

#[test]
fn a_build_that_writes_to_its_root_changes_a_copy_in_memory() {
    let world = World::new();
    let script = "echo more >>/usr/bin/cat; ln -f /usr/bin/cat /usr/bin/dog; ls /usr/bin/dog";
    build(&world, script).good();
    let built = harness::files_below(&world.path("data/roots"));
    assert!(built.keys().all(|path| !path.ends_with("dog")));
}
