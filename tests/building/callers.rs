//! The user who builds, and the user's shell, do not change the outputs.

use std::fs;
use std::process::Command;

use crate::harness::{GOOD, Outcome, World, is_root};

/// `hab-build hello` from a shell that has done `before`.
fn from_shell(world: &World, before: &str, words: &[&str]) -> Outcome {
    let words = [&["hello", "--platform", "linux/amd64", "--json"], words].concat();
    let given = world.command("data", &words);
    let mut shell = Command::new("bash");
    shell
        .arg("-c")
        .arg(format!("{before}; exec \"$0\" \"$@\""))
        .arg(given.get_program())
        .args(given.get_args());
    Outcome::of(&shell.env("NO_COLOR", "1").env_remove("HAB_LOG").output().unwrap())
}

#[test]
fn a_builds_files_have_modes_that_do_not_come_from_the_callers_umask() {
    let world = World::new();
    world.recipe("hello", &format!("{GOOD}cd /; ls -lR --time-style=+ /build /sysroot /etc /tmp >$WORK/list; cp $WORK/list $OUT/etc/list\n"));
    // Vary only the order: otherwise the list would contain the second run's umask.
    let digest = |before: &str| {
        let built = from_shell(&world, before, &["--vary", "order"]).good();
        let outputs = built.json["platforms"][0]["outputs"].as_array().unwrap().clone();
        outputs.into_iter().find(|file| file["path"] == "etc/list").unwrap()["sha256"].clone()
    };
    let first = digest("umask 077");
    for mask in ["umask 777", "umask 000", "umask 022"] {
        assert_eq!(digest(mask), first, "{mask}");
    }
    // The toolchain's folders were made under the first umask; unpack them again under another.
    fs::rename(world.path("data/roots"), world.path("data/roots-before")).unwrap();
    assert_eq!(digest("umask 022"), first);
}

#[test]
fn what_a_caller_limits_is_raised_or_said_in_a_sentence() {
    let world = World::new();
    from_shell(&world, "ulimit -Sn 20; ulimit -Ss 100", &[]).good();
    for (limit, words) in [
        ("ulimit -n 20", ["20 open files", "`ulimit -n`"]),
        ("ulimit -v 200000", ["195 MiB of address space", "`ulimit -v`"]),
        ("ulimit -s 100", ["100 KiB of stack", "LimitSTACK="]),
    ] {
        from_shell(&world, limit, &[]).refused(1, &words);
    }
    world.recipe("hello", &format!("{GOOD}echo more >$OUT/etc/more\n"));
    let limited = from_shell(&world, "ulimit -f 100", &[]);
    limited.refused(1, &["File too large"]);
    assert!(limited.stderr.contains("raise `ulimit -f`"), "{}", limited.stderr);
}

#[test]
fn a_data_folder_that_a_user_and_root_use_in_turn_builds_the_same_for_both() {
    if !is_root() {
        return hab_skip::skip(hab_skip::Lack::Root, "only root can become another user");
    }
    let world = World::new();
    let first = world.build_as_user("data", "hello").good();
    for (number, as_root) in [("1", true), ("2", false), ("3", true)] {
        // A changed script makes another plan, even with the same outputs.
        world.recipe("hello", &format!("{GOOD}echo {number}\n"));
        let built = if as_root { world.build("data", "hello") } else { world.build_as_user("data", "hello") };
        let built = built.good();
        assert_eq!(built.json["cached"], false);
        assert_eq!(
            built.json["platforms"][0]["manifest"], first.json["platforms"][0]["manifest"],
            "{number}"
        );
    }
}

#[test]
fn outputs_that_their_owner_cannot_read_are_refused_for_root_as_for_a_user() {
    let world = World::new();
    for (script, words) in [
        ("mkdir $OUT/etc/d; chmod 000 $OUT/etc/d", "\"etc/d\" has mode 0000"),
        ("echo x >$OUT/etc/f; chmod 001 $OUT/etc/f", "\"etc/f\" has mode 0001"),
    ] {
        world.recipe("hello", &format!("{GOOD}{script}\n"));
        let mut refusals = vec![world.build("data", "hello")];
        if is_root() {
            refusals.push(world.build_as_user("of-a-user", "hello"));
        }
        for refusal in refusals {
            refusal.refused(3, &[words, "outputs must be readable"]);
        }
    }
}
