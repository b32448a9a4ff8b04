//! `hab-build NAME TAG`: builds from a signed tag of a git upstream.

use crate::harness::{GOOD, Upstream, World, cert};

fn build(world: &World, words: &[&str]) -> crate::harness::Outcome {
    world.run("data", &[words, &["--platform", "linux/amd64", "--json"]].concat())
}

#[test]
fn a_signed_tag_is_mirrored_verified_and_built() {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    let commit = upstream.commit("one\n");
    upstream.tag("v1.0", commit, Some(&world.maintainer));
    upstream.commit("later\n");
    world.git_recipe("node", GOOD, &upstream.url());
    let built = build(&world, &["node", "v1.0"]).good();
    assert_eq!(built.json["source"]["kind"], "git");
    assert_eq!(built.json["source"]["revision"], commit.to_string());
    assert_eq!(built.json["source"]["evidence"]["signatures"][0]["verdict"], "good");
    assert_eq!(built.json["index"]["tags"][0], "v1.0");

    // From here on only the mirror is left.
    std::fs::remove_dir_all(world.path("upstream.git")).unwrap();
    let again = build(&world, &["node", "v1.0"]).good();
    assert_eq!((again.json["cached"].as_bool(), again.index()), (Some(true), built.index()));
}

#[test]
fn an_unsigned_tag_is_refused() {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.tag("v1.0", upstream.commit("one\n"), None);
    world.git_recipe("node", GOOD, &upstream.url());
    build(&world, &["node", "v1.0"]).refused(3, &["tag v1.0 of node", "carries no signature"]);
}

#[test]
fn a_tag_by_a_key_that_is_not_pinned_is_refused() {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.tag("v1.0", upstream.commit("one\n"), Some(&cert("somebody")));
    world.git_recipe("node", GOOD, &upstream.url());
    build(&world, &["node", "v1.0"]).refused(3, &["refused by policy maintainers", "0 of 1"]);
}

#[test]
fn a_tag_that_upstream_moved_is_refused_even_when_it_is_signed() {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.tag("v1.0", upstream.commit("one\n"), Some(&world.maintainer));
    world.git_recipe("node", GOOD, &upstream.url());
    build(&world, &["node", "v1.0"]).good();
    upstream.tag("v1.0", upstream.commit("two\n"), Some(&world.maintainer));
    upstream.tag("v1.1", upstream.commit("three\n"), Some(&world.maintainer));
    // A request for a tag that is not mirrored yet also brings in the moved tag.
    build(&world, &["node", "v1.1"]).good();
    build(&world, &["node", "v1.0"]).refused(3, &["tag v1.0", "was", "upstream now says"]);
}

#[test]
fn a_bad_tag_that_was_seen_first_does_not_block_the_good_one() {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.tag("v1.0", upstream.commit("junk\n"), None);
    world.git_recipe("node", GOOD, &upstream.url());
    build(&world, &["node", "v1.0"]).refused(3, &["carries no signature"]);
    let commit = upstream.commit("good\n");
    upstream.tag("v1.0", commit, Some(&world.maintainer));
    let built = build(&world, &["node", "v1.0"]).good();
    assert_eq!(built.json["source"]["revision"], commit.to_string());
}

#[test]
fn a_git_recipe_needs_a_version() {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    world.git_recipe("node", GOOD, &upstream.url());
    build(&world, &["node"]).refused(2, &["say which", "hab-build node v31.1"]);
}

#[test]
fn an_upstream_that_is_not_there_and_a_tag_that_is_not_there_are_told_apart() {
    let world = World::new();
    world.git_recipe("gone", GOOD, &world.path("nothing.git").display().to_string());
    build(&world, &["gone", "v1.0"]).refused(4, &["git ls-remote failed", "nothing.git"]);
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.commit("one\n");
    world.git_recipe("node", GOOD, &upstream.url());
    build(&world, &["node", "v9"]).refused(2, &["node has no tag v9"]);
    build(&world, &["node", "../../x"]).refused(2, &["is not a version"]);
}

#[test]
fn every_change_of_a_tag_is_in_the_journal_for_ever() {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    let one = upstream.commit("one\n");
    upstream.tag("v1.0", one, Some(&world.maintainer));
    upstream.tag("v0.9", one, Some(&world.maintainer));
    world.git_recipe("node", GOOD, &upstream.url());
    let log = || {
        let log = world.run("data", &["mirror", "log", "node", "--json"]).good();
        let entry =
            |e: &serde_json::Value| format!("{} {}", e["kind"].as_str().unwrap(), e["ref"].as_str().unwrap());
        log.json.as_array().unwrap().iter().map(entry).collect::<Vec<_>>()
    };
    // A request for a tag that is not mirrored yet makes the mirror sync.
    let sync = |tag: &str| {
        upstream.tag(tag, upstream.commit(tag), Some(&world.maintainer));
        world.run("data", &["plan", "node", tag, "--platform", "linux/amd64", "--json"]).good();
    };
    let tags = || log().into_iter().filter(|line| line.contains("refs/tags/")).collect::<Vec<_>>();
    sync("v1.1");
    assert_eq!(
        log(),
        ["new refs/heads/main", "new refs/tags/v0.9", "new refs/tags/v1.0", "new refs/tags/v1.1"]
    );
    upstream.tag("v1.0", upstream.commit("evil\n"), Some(&world.maintainer));
    upstream.delete_tag("v0.9");
    sync("v1.2");
    sync("v1.3");
    assert_eq!(
        tags()[3..],
        ["tag-moved refs/tags/v1.0", "new refs/tags/v1.2", "deleted refs/tags/v0.9", "new refs/tags/v1.3"]
    );
    // The tag moves back to its first value.
    let first = world.run("data", &["mirror", "log", "node", "--json"]).good().json[2]["new"].clone();
    upstream.point("v1.0", first.as_str().unwrap());
    sync("v1.4");
    assert_eq!(tags()[7..], ["restored refs/tags/v1.0", "new refs/tags/v1.4"]);
    let verified = world.run("data", &["mirror", "verify", "--json"]).good();
    assert_eq!(verified.json[0]["entries"], 13);
    // Somebody cuts the newest entry off the journal.
    let path = world.path("data/git/node.journal");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    std::fs::write(&path, lines[..12].concat()).unwrap();
    world.run("data", &["mirror", "verify", "node", "--json"]).refused(3, &["its end is gone"]);
    std::fs::write(&path, text.replacen("tag-moved", "new", 1)).unwrap();
    world
        .run("data", &["mirror", "verify", "node", "--json"])
        .refused(3, &["line 7 of", "the line before it"]);
    world.run("data", &["mirror", "log", "nobody", "--json"]).refused(2, &["nobody is not mirrored here"]);
}
