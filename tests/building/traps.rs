//! Things on which a recipe's output may depend, each with a small recipe. Either the two runs differ, or the thing
//! looks the same everywhere, or two runs cannot find it. docs/RECIPES.md has the same table, so it claims only what is
//! tested here.

use std::fs;
use std::path::Path;

use crate::harness::{GOOD, Outcome, World, is_root};

/// The result for a recipe whose output depends on something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The two runs differ.
    Caught,
    /// It looks the same on every machine.
    Fixed,
    /// The build is refused, and the error names it.
    Refused,
    /// Two runs on one machine can agree although it matters.
    Missed,
}

use Verdict::{Caught, Fixed, Missed, Refused};

/// The dependency, an example script, the expected result, and how it comes about.
const TRAPS: &[(&str, &str, Verdict, &str)] = &[
    (
        "order of files made by the build",
        "cd $WORK; touch a b c d e f g h; ls -U",
        Caught,
        "the second run lists every folder backwards",
    ),
    ("order of files of the source", "ls -U $SRC/many", Caught, "the same"),
    ("order of files of the outputs", "mkdir $OUT/usr/lib $OUT/usr/a; ls -U $OUT/usr", Caught, "the same"),
    ("order of files of the toolchain", "ls -U /usr/bin", Caught, "the same"),
    ("time", "date", Caught, "the runs begin at least two seconds apart"),
    ("time of a new file", "touch $WORK/f; ls -l --full-time $WORK/f", Caught, "the same"),
    (
        "date alone",
        "date +%F",
        Caught,
        "dynamic programs read a clock that is 400 days, 12 hours, 13 minutes and 17 seconds ahead in the second run",
    ),
    ("date alone, of the shell", "printf '%(%F)T\\n'", Caught, "the same"),
    ("hour alone", "date +%H", Caught, "the same"),
    ("minute alone", "date +%M", Caught, "the same"),
    ("date of a new file", "touch $WORK/f; date -r $WORK/f +%F", Caught, "the same"),
    (
        "archive of files with the day as their time",
        "touch -d $(date +%F) $WORK/f; tar -C $WORK --numeric-owner --mode 644 -c f",
        Caught,
        "the same",
    ),
    ("time since boot", "cat /proc/uptime", Caught, "it is made up, and another in the second run"),
    ("load", "cat /proc/loadavg", Caught, "the same"),
    ("kernel's release", "uname -r", Caught, "the same"),
    ("kernel's version", "cat /proc/version", Caught, "the same"),
    ("boot", "cat /proc/sys/kernel/random/boot_id", Caught, "the same"),
    ("file systems that the kernel knows", "cat /proc/filesystems", Fixed, "it is made up"),
    ("number of jobs", "echo $JOBS", Caught, "the second run has one more"),
    ("number of processors", "nproc", Caught, "the same"),
    ("number of processors, of the C library", "getconf _NPROCESSORS_ONLN", Caught, "the same"),
    (
        "processor that a compiler looks at",
        "printf '#!/bin/bash\\n' >$WORK/cc; chmod +x $WORK/cc; $WORK/cc -O2 -march=native x.c",
        Refused,
        "no program is started with `-march=native`, `-mcpu=native`, `-mtune=native` or `target-cpu=native`",
    ),
    (
        "processor that a program asks itself",
        "LD_SHOW_AUXV=1 cat /dev/null | while read -r name value; do case $name in AT_HWCAP*) echo $value; esac; done",
        Missed,
        "it is an instruction and no call; both runs are on one machine",
    ),
    ("kind of processors", "cat /proc/cpuinfo", Caught, "it is made up, and another in the second run"),
    ("size of the memory", "cat /proc/meminfo", Caught, "the same"),
    ("limits of the caller", "ulimit -Ha; ulimit -Sa", Fixed, "the sandbox sets them"),
    ("priority of the caller", "nice", Fixed, "it is the lowest"),
    ("user of the caller", "cat /proc/self/uid_map /proc/self/gid_map; id", Fixed, "inside it is 1000"),
    (
        "folder of the build on this machine",
        "cat /proc/self/mountinfo /proc/mounts; pwd",
        Fixed,
        "it is /build inside",
    ),
    ("name of this machine", "uname -n", Fixed, "it is `hab`"),
    ("mode of a new file", "touch $WORK/f; stat -c %a $WORK/f", Caught, "the second run has another umask"),
    ("umask", "umask", Caught, "the same"),
    ("file system", "stat -f -c %T $WORK $OUT /", Caught, "it is made up, and another in the second run"),
    (
        "size and free space of the disk",
        "df $WORK >/dev/null; stat -f -c '%s %b %f' $WORK",
        Fixed,
        "it is the recipe's limit",
    ),
    ("number of a new file", "touch $WORK/f; stat -c %i $WORK/f", Caught, "the second run has others"),
    ("number of a file of the toolchain", "ls -i /usr/bin/cat", Caught, "the same"),
    ("number of the disk of the build", "stat -c %d $WORK", Caught, "the same"),
    ("number of the disk of the toolchain", "stat -c %d /", Caught, "the same"),
    (
        "blocks of a file, size of a folder",
        "truncate -s 1M $WORK/f; mkdir -p $WORK/d/e; stat -c '%b %o %s %h' $WORK/f $WORK/d /usr/bin",
        Fixed,
        "dynamic programs are told what follows from the file's size",
    ),
    (
        "time of access to a file",
        "stat -c %X /usr/bin/cat",
        Fixed,
        "dynamic programs are told the time of modification of what was not made in the run",
    ),
    ("time of a device", "stat -c '%Y %Z' /dev/zero", Fixed, "dynamic programs are told of none"),
    (
        "time of creation of a file",
        "ls -l --time=birth --full-time /usr/bin/cat",
        Fixed,
        "dynamic programs are told of none",
    ),
    ("day of change of a file", "date -d @$(stat -c %Z /usr/bin/cat) +%F", Caught, "as the date"),
    (
        "where programs lie in memory",
        "while read -r line; do case $line in *bin/bash) echo ${line%%-*}; break;; esac; done </proc/self/maps",
        Caught,
        "at random places in the first run, at fixed ones in the second",
    ),
    (
        "luck",
        "echo $((RANDOM % 2))",
        Missed,
        "a build that is lucky twice passes; `--check-runs 10` runs it more often",
    ),
    (
        "which of two jobs ends first",
        "(sleep 0.$RANDOM; echo a) & (sleep 0.$RANDOM; echo b); wait",
        Missed,
        "the same; make 4.4 and later start jobs in another order in each run",
    ),
];

/// Builds each row, and returns the rows that did not end as the table says.
fn wrong(world: &World, build: impl Fn() -> Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    for (what, script, verdict, _) in TRAPS.iter().filter(|trap| trap.2 != Missed) {
        world.recipe("hello", &format!("{GOOD}( {script} ) >$OUT/etc/fact\n"));
        let built = build();
        let well = match verdict {
            Caught => built.code == Some(5) && built.stderr.contains("etc/fact"),
            Refused => built.code == Some(3) && built.stderr.contains("was not started with -march=native"),
            _ => built.code == Some(0),
        };
        if !well {
            wrong.push(format!("{what}: {:?} {}", built.code, built.stderr));
        }
    }
    wrong
}

#[test]
fn what_two_runs_find_they_find_and_what_cannot_be_seen_passes() {
    let world = World::new();
    let wrong = wrong(&world, || world.build("data", "hello"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_same_is_so_for_a_user() {
    if !is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can become another user");
    }
    let world = World::new();
    let wrong = wrong(&world, || world.build_as_user("of-a-user", "hello"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn what_cannot_be_seen_is_the_same_for_root_and_for_a_user() {
    if !is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can become another user");
    }
    let world = World::new();
    let fixed: Vec<_> = TRAPS.iter().filter(|trap| trap.2 == Fixed).map(|trap| trap.1).collect();
    let script = format!("( {} ) >$OUT/etc/fact\n", fixed.join("; "));
    world.recipe("hello", &format!("{GOOD}{script}"));
    let index = world.build("data", "hello").good().index();
    let built = world.build_as_user("of-a-user", "hello").good();
    assert_eq!(built.index(), index, "{}", built.stderr);
}

#[test]
fn the_handbook_has_this_table() {
    let mut table = "| depends on | example | two runs | because |\n|---|---|---|---|\n".to_owned();
    for (what, example, verdict, why) in TRAPS {
        let word = match verdict {
            Caught => "differ",
            Fixed => "see the same, as everywhere",
            Refused => "end with an error",
            Missed => "**cannot tell**",
        };
        table.push_str(&format!("| {what} | `{}` | {word} | {why} |\n", example.replace('|', "\\|")));
    }
    let book = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RECIPES.md")).unwrap();
    assert!(book.contains(&table), "docs/RECIPES.md needs this table:\n{table}");
}
