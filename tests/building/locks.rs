//! `hab-build lock`: names become digests, once, for a person to review.

use std::fs;

use crate::harness::{World, krate_line};

const RECIPE: &str = "recipes/hello/recipe.lock";
const TOOLCHAIN: &str = "recipes/toolchains/tiny.lock";

#[test]
fn a_toolchain_is_resolved_by_apt_and_every_package_is_named_by_the_signed_index() {
    let world = World::new();
    fs::remove_file(world.path(TOOLCHAIN)).unwrap();
    let locked = world.run("data", &["lock", "toolchain", "tiny", "--json"]).good();
    let text = fs::read_to_string(world.path(TOOLCHAIN)).unwrap();
    // The build's own root, and a sysroot for each platform.
    assert_eq!(locked.json["entries"], 3, "{text}");
    let lock: toml::Table = toml::from_str(&text).unwrap();
    let packages = lock["packages"].as_array().unwrap();
    let named: Vec<_> = packages
        .iter()
        .map(|p| ["root", "name", "architecture"].map(|field| p[field].as_str().unwrap().to_owned()))
        .collect();
    let expected = [["build", "tools", "amd64"], ["amd64", "target", "amd64"], ["arm64", "target", "arm64"]];
    assert_eq!(named, expected.map(|row| row.map(str::to_owned)));
    let deb = world.server.get("pool/tools.deb").unwrap();
    assert_eq!(packages[0]["digest"].as_str().unwrap(), hab_oci::Digest::of(&deb).to_string());
    let release = world.server.get("dists/stable/InRelease").unwrap();
    assert_eq!(lock["in_release"].as_str().unwrap(), hab_oci::Digest::of(&release).to_string());
    // Made again it is the same; and a recipe's lock that was made for another one is refused until it is made anew.
    world.run("data", &["lock", "toolchain", "tiny"]).good();
    assert_eq!(fs::read_to_string(world.path(TOOLCHAIN)).unwrap(), text);
    world.build("data", "hello").refused(2, &["recipe", "the toolchain was locked anew since it was made"]);
    world.run("data", &["lock", "recipe", "hello"]).good();
    world.build("data", "hello").good();
}

#[test]
fn a_toolchain_is_not_locked_from_an_archive_that_somebody_else_signed() {
    let world = World::new();
    let before = fs::read_to_string(world.path(TOOLCHAIN)).unwrap();
    world.publish_archive_by(&crate::harness::cert("stranger"), crate::harness::DATE);
    world.run("data", &["lock", "toolchain", "tiny"]).refused(3, &["InRelease", "policy debian"]);
    assert_eq!(fs::read_to_string(world.path(TOOLCHAIN)).unwrap(), before);
}

#[test]
fn a_debian_source_is_locked_with_the_date_of_its_changelog() {
    let world = World::new();
    let by_hand = fs::read_to_string(world.path(RECIPE)).unwrap();
    fs::remove_file(world.path(RECIPE)).unwrap();
    let locked = world.run("data", &["lock", "recipe", "hello", "--json"]).good();
    assert_eq!(locked.json["entries"], 1);
    // Three files by digest and size, and the day on which the packaging says that it was made.
    assert_eq!(fs::read_to_string(world.path(RECIPE)).unwrap(), by_hand);
    assert!(by_hand.contains("epoch = 1600000000"), "{by_hand}");
    world.run("data", &["lock", "recipe", "hello", "9.9-1"]).refused(3, &["hello", "9.9-1"]);
    assert_eq!(fs::read_to_string(world.path(RECIPE)).unwrap(), by_hand, "a refusal changes nothing");
}

#[test]
fn a_version_of_a_crate_is_added_to_those_that_are_locked() {
    let world = World::new();
    world.crate_recipe("small", crate::harness::GOOD);
    let path = world.path("recipes/small/recipe.lock");
    let before = fs::read_to_string(&path).unwrap();
    let bytes = world.server.get("dl/tiny/1.2.3.crate").unwrap();
    let lines: Vec<String> =
        ["1.2.3", "1.3.0"].iter().map(|version| krate_line("tiny", version, &bytes)).collect();
    world.server.put("ti/ny/tiny", lines.join("\n").into_bytes());
    world.server.put("dl/tiny/1.3.0.crate", bytes);
    let locked = world.run("data", &["lock", "recipe", "small", "1.3.0", "--json"]).good();
    assert_eq!(locked.json["entries"], 2);
    let after = fs::read_to_string(&path).unwrap();
    assert!(after.contains("version = \"1.2.3\"") && after.contains("version = \"1.3.0\""), "{after}");
    let listed = world.run("data", &["recipes", "--json"]).good().json;
    let row = listed.as_array().unwrap().iter().find(|row| row["name"] == "small").unwrap().clone();
    assert_eq!(row["versions"], serde_json::json!(["1.2.3", "1.3.0"]));
    // One that the index does not have, and bytes that are not those of the index.
    world.run("data", &["lock", "recipe", "small", "2.0.0"]).refused(4, &["tiny", "2.0.0"]);
    world.server.put("dl/tiny/1.3.0.crate", b"something else".to_vec());
    world.run("other", &["lock", "recipe", "small", "1.3.0"]).refused(3, &["tiny-1.3.0.crate"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), after);
    assert_ne!(before, after);
}

#[test]
fn what_cannot_be_locked_is_said_with_the_folder_that_was_looked_at() {
    let world = World::new();
    world
        .run("data", &["lock", "recipe", "none"])
        .refused(2, &["there is no none/recipe.toml in", "--recipes DIR"]);
    world.run("data", &["lock", "toolchain", "none"]).refused(2, &["there is no toolchains/none.toml in"]);
    world.git_recipe("tagged", crate::harness::GOOD, "https://test.invalid/tagged.git");
    let locked = world.run("data", &["lock", "recipe", "tagged", "--json"]).good();
    assert_eq!(locked.json["entries"], 0, "its tag's signature pins it");
}
