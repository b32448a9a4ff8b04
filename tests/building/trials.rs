//! How often a plan is run, and which factors are changed: `--check-runs` and `--vary`.

use crate::harness::{GOOD, Outcome, World};

fn build(world: &World, words: &[&str]) -> Outcome {
    world.run("data", &[&["build", "hello", "--platform", "linux/amd64", "--json"], words].concat())
}

#[test]
fn as_many_runs_are_made_as_are_asked_for_and_fewer_than_were_made_are_no_reason_for_more() {
    let world = World::new();
    let runs = |built: &Outcome| {
        let runs = &built.json["platforms"][0]["runs"];
        (
            built.json["cached"].as_bool().unwrap(),
            runs["count"].as_u64().unwrap(),
            runs["logs"].as_array().unwrap().len(),
        )
    };
    let three = build(&world, &["--check-runs", "3"]).good();
    assert_eq!(runs(&three), (false, 3, 3));
    assert_eq!(three.json["timings"]["runs_ms"][0].as_array().unwrap().len(), 3);
    let two = build(&world, &[]).good();
    assert_eq!(runs(&two), (true, 3, 3));
    let four = build(&world, &["--check-runs", "4"]).good();
    assert_eq!(runs(&four), (false, 4, 4));
    assert_eq!(four.index(), three.index());
    for number in ["1", "101", "many"] {
        assert_eq!(build(&world, &["--check-runs", number]).code, Some(2), "{number}");
    }
}

#[test]
fn the_report_says_what_was_another_in_the_later_runs() {
    let world = World::new();
    let built = build(&world, &[]).good();
    let varied = &built.json["platforms"][0]["runs"]["varied"];
    let all = hab_sandbox::Vary::ALL.map(|vary| vary.name().into());
    let mut all: Vec<serde_json::Value> = all.into();
    all.sort_by_key(|name| varied.as_array().unwrap().iter().position(|there| there == name));
    assert_eq!(varied.as_array().unwrap(), &all);
}

#[test]
fn a_difference_is_traced_to_what_it_comes_from_and_an_experiment_publishes_nothing() {
    let world = World::new();
    world.recipe("hello", &format!("{GOOD}umask >$OUT/etc/fact\ncat /proc/version >>$OUT/etc/fact\n"));
    build(&world, &[]).refused(5, &["etc/fact", "not reproducible"]);
    for (factors, code) in [
        ("order,date,uptime,hardware,numbers,disk,addresses,schedule", 0),
        ("umask", 5),
        ("kernel", 5),
        ("date,kernel", 5),
    ] {
        let tried = build(&world, &["--vary", factors]);
        assert_eq!(tried.code, Some(code), "{factors}: {}", tried.stderr);
        if code == 0 {
            assert!(tried.stderr.contains("nothing was published"), "{}", tried.stderr);
            assert_eq!(tried.json["platforms"][0]["runs"]["count"], 2);
            assert!(tried.json["index"].is_null());
        }
    }
    let listed = world.run("data", &["registry", "list", "--json"]).good();
    assert_eq!(listed.json, serde_json::json!([]));
    let wrong = build(&world, &["--vary", "weather"]);
    assert_eq!(wrong.code, Some(2));
    for word in ["weather", "order", "schedule"] {
        assert!(wrong.stderr.contains(word), "{}", wrong.stderr);
    }
}

#[test]
fn make_is_told_another_order_in_each_run_and_keeps_the_recipes_flags() {
    let world = World::new();
    let recipe = format!("{GOOD}echo \"said: $MAKEFLAGS\"\n");
    world.recipe("hello", &recipe);
    world.edit_recipe("hello", "hardened = false\n", "hardened = false\nenv = { MAKEFLAGS = \"k\" }\n");
    let built = build(&world, &["--check-runs", "3"]).good();
    let blobs = crate::harness::files_below(&world.path("data/blobs"));
    let logs = built.json["platforms"][0]["runs"]["logs"].as_array().unwrap();
    let said = logs.iter().map(|digest| {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
        let log = blobs.iter().find(|(path, _)| path.ends_with(hex)).unwrap().1;
        let text = String::from_utf8(log.clone()).unwrap();
        text.lines().rev().find_map(|line| line.strip_prefix("said: ").map(str::to_owned)).unwrap()
    });
    let said: Vec<_> = said.collect();
    assert_eq!(said, ["k", "k --shuffle=reverse", "k --shuffle=2"]);
}

#[test]
fn a_script_that_met_a_full_disk_or_the_end_of_memory_has_that_in_the_error() {
    let world = World::new();
    for (script, words) in [
        ("head -c 1100M /dev/zero >/tmp/x", ["no space left", "1024 MiB", "build.disk_mib"]),
        ("bash -c 'kill -9 $$'", ["was killed", "build.memory_mib is 2048", "first run"]),
    ] {
        world.recipe("hello", &format!("{GOOD}{script}\n"));
        // Give the build more room than the files outside /build have.
        world.edit_recipe("hello", "memory_mib = 512\ndisk_mib = 256", "memory_mib = 2048\ndisk_mib = 2048");
        build(&world, &[]).refused(3, &words);
    }
}
