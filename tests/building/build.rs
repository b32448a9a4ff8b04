//! From a signed source to an image.

use crate::harness::World;

#[test]
fn a_signed_source_becomes_an_image_and_the_report_says_everything() {
    let world = World::new();
    let built = world.build("data", "hello").good();
    let json = &built.json;
    assert_eq!(json["recipe"], "hello");
    assert_eq!(json["version"], "1.0-1");
    assert_eq!(json["source"]["kind"], "debian-source");
    assert_eq!(json["source"]["evidence"]["signatures"][0]["verdict"], "good");
    assert_eq!(json["runs"]["count"], 2);
    assert_eq!(json["runs"]["identical"], true);
    assert_eq!(json["cached"], false);
    assert_eq!(json["index"]["tags"][0], "1.0-1");
    let platform = &json["platforms"][0];
    assert_eq!(platform["platform"]["architecture"], "amd64");
    for path in ["manifest", "config"] {
        assert!(platform[path].as_str().unwrap().starts_with("sha256:"), "{path}");
    }
    let layer = &platform["layers"][1];
    assert!(layer["digest"].is_string() && layer["diffID"].is_string() && layer["size"].is_number());
    let paths: Vec<_> =
        platform["outputs"].as_array().unwrap().iter().map(|o| o["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["etc/message", "usr/bin/hello"]);
    assert!(platform["smoke"]["passed"]["line"].as_str().unwrap().contains("coreutils"));
}

#[test]
fn a_crate_is_held_against_its_lock_and_its_subfolder_is_built() {
    let world = World::new();
    world.crate_recipe("tiny-node", crate::harness::GOOD);
    let good = world.server.get("dl/tiny/1.2.3.crate").unwrap();
    world.server.tamper("dl/tiny/1.2.3.crate");
    world.build("data", "tiny-node").refused(3, &["tiny-1.2.3.crate", "not what the lock says"]);
    world.server.put("dl/tiny/1.2.3.crate", good);
    let built = world.build("data", "tiny-node").good();
    assert_eq!(built.json["source"]["kind"], "crate");
    assert_eq!(built.json["source"]["evidence"]["kind"], "digest");
    let message = &built.json["platforms"][0]["outputs"][0];
    assert_eq!(message["sha256"], hab_oci::Digest::of(b"from a crate\n").hex());
}

#[test]
fn two_data_folders_have_the_same_index() {
    let world = World::new();
    let one = world.build("one", "hello").good();
    let other = world.build("another-with-a-longer-name", "hello").good();
    assert_eq!(one.index(), other.index());
    assert_eq!(one.json["platforms"][0]["outputs"], other.json["platforms"][0]["outputs"]);
}

#[test]
fn a_second_run_answers_from_the_cache_even_when_upstream_is_gone() {
    let world = World::new();
    let first = world.build("data", "hello").good();
    world.server.stop();
    let second = world.build("data", "hello").good();
    assert_eq!(second.json["cached"], true);
    assert_eq!(first.index(), second.index());
}

#[test]
fn a_changed_script_is_another_plan() {
    let world = World::new();
    let first = world.build("data", "hello").good();
    world.recipe("hello", &format!("{}echo more > $OUT/etc/more\n", crate::harness::GOOD));
    let second = world.build("data", "hello").good();
    assert_eq!(second.json["cached"], false);
    assert_ne!(first.index(), second.index());
}

#[test]
fn what_was_mirrored_builds_again_offline() {
    let world = World::new();
    world.build("data", "hello").good();
    world.recipe("hello", &format!("{}echo more > $OUT/etc/more\n", crate::harness::GOOD));
    let before = world.server.requests();
    world.run("data", &["hello", "--platform", "linux/amd64", "--offline"]).good();
    assert_eq!(world.server.requests(), before, "nothing may be fetched");
}

#[test]
fn a_transfer_that_breaks_off_is_resumed_where_it_was() {
    let world = World::new();
    world.server.cut("pool/tools.deb", 2);
    world.build("data", "hello").good();
    assert_eq!(world.server.requests().1, 2, "two ranges");
}

#[test]
fn a_build_leaves_no_scratch_behind() {
    let world = World::new();
    world.build("data", "hello").good();
    assert_eq!(crate::harness::files_below(&world.path("data/work/builds")).len(), 0);
    assert_eq!(crate::harness::files_below(&world.path("data/work/partial")).len(), 0);
}
