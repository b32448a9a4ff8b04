//! The recipes that come with the program: every one reads, fits its locks and makes a plan.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;

use hab_oci::{Digest, Platform};
use hab_recipe::{Plan, PlannedSource, RecipeError, RecipeSet};

fn set() -> RecipeSet {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes"));
    RecipeSet::load(folder, |path, _| Ok::<_, RecipeError>(std::fs::read_to_string(path).unwrap())).unwrap()
}

fn plan(name: &str, platform: Platform) -> Plan {
    let set = set();
    let text = set.recipe(name).unwrap();
    let toolchain = set.toolchain_lock(&text.toolchain).unwrap();
    let lock = set.recipe_lock(&text.recipe, &toolchain).unwrap();
    let (version, source) = match lock.source.last() {
        Some(locked) => (
            locked.version.clone(),
            PlannedSource {
                digest: locked.digest().clone(),
                revision: locked.version.clone(),
                epoch: locked.epoch,
                unsigned: false,
            },
        ),
        None => (
            "v1".to_owned(),
            PlannedSource {
                digest: Digest::of(b"tree"),
                revision: "commit".to_owned(),
                epoch: 1,
                unsigned: false,
            },
        ),
    };
    Plan::new(&text, &version, platform, toolchain.digest(), source, BTreeMap::new()).unwrap()
}

#[test]
fn every_recipe_fits_its_locks_and_makes_a_plan() {
    let set = set();
    assert_eq!(set.names(), ["bitcoin", "bitcoin-crate", "secp256k1"]);
    for name in set.names() {
        let [amd64, arm64] = Platform::ALL.map(|p| plan(name, p));
        assert_ne!(amd64.digest(), arm64.digest());
        let again: Plan = serde_json::from_str(&amd64.to_text()).unwrap();
        assert_eq!(again.digest(), amd64.digest(), "a plan's text reads back");
    }
}

#[test]
fn locks_are_written_as_they_are_read() {
    let set = set();
    for name in set.names() {
        let text = set.recipe(name).unwrap();
        let toolchain = set.toolchain_lock(&text.toolchain).unwrap();
        let lock = set.recipe_lock(&text.recipe, &toolchain).unwrap();
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes"));
        let read = |file: String| std::fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(lock.to_text(), read(format!("{name}/recipe.lock")));
        assert_eq!(toolchain.to_text(), read("toolchains/debian-12.lock".to_owned()));
    }
}

#[test]
fn a_version_that_could_be_a_path_or_an_option_is_refused() {
    let text = set().recipe("bitcoin").unwrap();
    for version in ["", "-v", "../x", "a b", "a/b", "v1\n", &"1".repeat(101)] {
        let source =
            PlannedSource { digest: Digest::of(b""), revision: String::new(), epoch: 0, unsigned: false };
        let plan = Plan::new(&text, version, Platform::LinuxAmd64, Digest::of(b""), source, BTreeMap::new());
        assert!(matches!(plan, Err(RecipeError::Version(_))), "{version:?}");
    }
}

#[test]
fn a_plan_prints_everything_that_decides() {
    let mut plan = plan("secp256k1", Platform::LinuxArm64);
    // These change with every new lock or script; what they are is not what this test is about.
    plan.toolchain = Digest::of(b"toolchain");
    plan.script = Digest::of(b"script");
    insta::assert_snapshot!(plan.to_text());
}

#[test]
fn limits_that_fit_into_no_number_of_bytes_or_seconds_are_refused_by_name() {
    let read = |name: &str| {
        let path = format!("{}/../../recipes/secp256k1/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    };
    for (field, value) in
        [("minutes", u64::MAX), ("minutes", 0), ("disk_mib", 1 << 44), ("memory_mib", 1 << 44)]
    {
        let text = read("recipe.toml");
        let kept = text.lines().filter(|line| !line.starts_with(field)).collect::<Vec<_>>().join("\n");
        let text = kept.replacen("[build]\n", &format!("[build]\n{field} = {value}\n"), 1);
        let files = BTreeMap::from([
            ("secp256k1/recipe.toml".to_owned(), text),
            ("secp256k1/build.sh".to_owned(), read("build.sh")),
        ]);
        let error = RecipeSet::from_files(files).recipe("secp256k1").unwrap_err();
        let said = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
        assert!(said.contains(&format!("build.{field} is {value}")), "{said}");
    }
}

#[test]
fn the_handbooks_recipe_is_one() {
    let handbook = include_str!("../../../docs/RECIPES.md");
    let code: String = handbook
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .fold(String::new(), |code, line| code + line + "\n");
    let recipe = &code[code.find("name = \"hello\"").unwrap()..code.find("#!/bin/bash").unwrap()];
    let recipe = hab_recipe::Recipe::parse(&"hello".parse().unwrap(), recipe).unwrap();
    assert_eq!(recipe.smoke.expect, "Hello, world!");
}
