//! `hab-build mirror` and the served mirrors, with stock git as the client.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Serving, Upstream, World, cert};

/// A world in which `node` is a project whose tags the maintainer signs.
pub fn world() -> (World, Upstream) {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.tag("v1.0", upstream.commit("one\n"), Some(&world.maintainer));
    add(&world, "node", &upstream.url(), &["--policy", "maintainers"]);
    (world, upstream)
}

pub fn add(world: &World, name: &str, url: &str, more: &[&str]) {
    world.run("data", &[&["mirror", "add", name, url], more].concat()).good();
}

pub fn sync(world: &World) -> serde_json::Value {
    world.run("data", &["mirror", "sync", "node", "--json"]).good().json[0].clone()
}

/// Runs git as a stranger has it, and returns its standard output.
#[track_caller]
pub fn git(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .args(words)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn served_refs(folder: &Path, url: &str) -> Vec<String> {
    let text = git(folder, &["ls-remote", "--refs", url, "refs/heads/*", "refs/tags/*"]);
    text.lines().map(|line| line.split_once('\t').unwrap().1.to_owned()).collect()
}

/// Text that does not compress well.
pub fn noise(length: u64) -> String {
    let letter = |n: u64| char::from(b'!' + (n.wrapping_mul(n ^ 0x9e37_79b9) >> 7).to_le_bytes()[0] % 90);
    (0..length).map(letter).collect()
}

#[test]
fn a_stock_git_clones_in_every_way_and_fetches_what_came_later() {
    let (world, upstream) = world();
    let first = upstream.commit("two\n");
    sync(&world);
    let serving = Serving::start(&world);
    let (url, folder) = (serving.url("/git/node.git"), world.path("clones"));
    fs::create_dir(&folder).unwrap();
    for protocol in ["2", "0"] {
        let option = format!("protocol.version={protocol}");
        let clone = |more: &[&str], name: &str| {
            let name = format!("{name}-{protocol}");
            git(&folder, &[&["-c", &option, "clone", "-q"], more, &[&url, &name]].concat());
            folder.join(name)
        };
        let whole = clone(&[], "whole");
        assert_eq!(git(&whole, &["rev-parse", "HEAD"]), first.to_string());
        assert_eq!(fs::read_to_string(whole.join("message")).unwrap(), "two\n");
        let shallow = clone(&["--depth", "1"], "shallow");
        assert_eq!(git(&shallow, &["rev-list", "--count", "HEAD"]), "1");
        let partial = clone(&["--filter=blob:none", "--no-checkout"], "partial");
        let missing = git(&partial, &["rev-list", "--objects", "--all", "--missing=print"]);
        assert_eq!(missing.lines().filter(|line| line.starts_with('?')).count(), 2);
        assert_eq!(git(&partial, &["show", "HEAD:message"]), "two");
        clone(&["--single-branch", "--branch", "v1.0"], "single");
    }
    let second = upstream.commit("three\n");
    sync(&world);
    git(&folder.join("whole-2"), &["fetch", "-q"]);
    assert_eq!(git(&folder.join("whole-2"), &["rev-parse", "origin/main"]), second.to_string());
    // The clone is the same after upkeep, with a bitmap, a commit-graph and a bundle.
    world.run("data", &["mirror", "upkeep"]).good();
    git(&folder, &["clone", "-q", "--bare", &url, "kept-up"]);
    let bundle = format!("--bundle-uri={}", serving.url("/git/node.git/clone.bundle"));
    git(&folder, &["clone", "-q", "--bare", &bundle, &url, "bundled"]);
    let from_bundle = git(&folder.join("bundled"), &["for-each-ref", "refs/bundles"]);
    assert!(from_bundle.contains("refs/bundles/main"), "{from_bundle}");
    for name in ["kept-up", "bundled"] {
        assert_eq!(git(&folder.join(name), &["rev-parse", "main"]), second.to_string());
        git(&folder.join(name), &["fsck", "--full", "--strict"]);
    }
    assert!(world.path("data/git/node.git/graph/info/commit-graph").exists());
}

#[test]
fn what_is_no_clone_is_refused() {
    let (world, _upstream) = world();
    sync(&world);
    let serving = Serving::start(&world);
    for (path, status) in [
        ("/git/node.git/info/refs", 403),
        ("/git/node.git/info/refs?service=git-receive-pack", 403),
        ("/git/node.git/HEAD", 403),
        ("/git/node.git/objects/info/packs", 403),
        ("/git/node.git/config", 404),
        ("/git/nothing.git/info/refs?service=git-upload-pack", 404),
        ("/git/..%2fnode.git/info/refs?service=git-upload-pack", 404),
        ("/git/../../etc/info/refs?service=git-upload-pack", 404),
        ("/git/verified/..%2fnode.git/info/refs?service=git-upload-pack", 404),
        ("/git/node.git/git-upload-pack", 404),
    ] {
        assert_eq!(serving.get(path).0, status, "{path}");
    }
    let clone = world.path("clone");
    git(world.folder.path(), &["clone", "-q", &serving.url("/git/node.git"), "clone"]);
    let pushed = Command::new("git")
        .args(["push", "-q", "origin", "HEAD:refs/heads/mine"])
        .current_dir(&clone)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(!pushed.status.success() && String::from_utf8_lossy(&pushed.stderr).contains("403"));
}

#[test]
fn an_upstream_that_rewrites_leaves_what_is_served_where_it_was_until_a_person_decides() {
    let (world, upstream) = world();
    let (one, two) = (upstream.commit("two\n"), upstream.commit("three\n"));
    sync(&world);
    let serving = Serving::start(&world);
    let (url, folder) = (serving.url("/git/node.git"), world.folder.path());
    let served = |name: &str| git(folder, &["ls-remote", &url, name]).split('\t').next().unwrap().to_owned();
    let tag = served("refs/tags/v1.0");
    upstream.rewind(one);
    let other = upstream.commit("another three\n");
    upstream.tag("v1.0", other, Some(&world.maintainer));
    let synced = sync(&world);
    assert_eq!(synced["frozen"], serde_json::json!(["refs/heads/main", "refs/tags/v1.0"]));
    assert_eq!((served("refs/heads/main"), served("refs/tags/v1.0")), (two.to_string(), tag.clone()));
    let row = world.run("data", &["mirror", "list", "--json"]).good().json[0].clone();
    assert_eq!(row["frozen"].as_array().unwrap().len(), 2);
    // Both histories can be fetched: the one that upstream rewrote, and the new one that waits for a person.
    git(folder, &["clone", "-q", &url, "clone"]);
    git(&folder.join("clone"), &["cat-file", "-e", &two.to_string()]);
    git(&folder.join("clone"), &["fetch", "-q", "origin", &other.to_string()]);
    let beside = format!("refs/history/heads/main/{other}");
    assert_eq!(served(&beside), other.to_string());

    // A new commit on the other history waits too.
    let more = upstream.commit("four\n");
    sync(&world);
    assert_eq!(served("refs/heads/main"), two.to_string());
    let run =
        |words: &[&str]| world.run("data", &[&["mirror", "accept", "node"], words, &["--json"]].concat());
    run(&["v9"]).refused(2, &["v9 of node cannot be accepted", "refs/heads/main, refs/tags/v1.0"]);
    run(&["main", "abc"]).refused(2, &["its values were"]);
    run(&["main", &"0".repeat(40)]).refused(2, &["its values were", &more.to_string()]);
    let accepted = run(&["main"]).good().json;
    assert_eq!(
        (accepted["old"].as_str(), accepted["new"].as_str()),
        (Some(&*two.to_string()), Some(&*more.to_string()))
    );
    assert_eq!(served("refs/heads/main"), more.to_string());
    assert_eq!(served(&format!("refs/history/heads/main/{two}")), two.to_string());
    // A person may also keep the old value.
    run(&["refs/tags/v1.0", &tag[..10]]).good();
    assert_eq!(served("refs/tags/v1.0"), tag);
    let after = sync(&world);
    assert_eq!((after["frozen"].as_array().unwrap().len(), after["changes"].as_u64()), (0, Some(0)));
    run(&["main"]).refused(2, &["no ref of this project is frozen"]);
    let upstream_goes_on = upstream.commit("five\n");
    sync(&world);
    assert_eq!(served("refs/heads/main"), upstream_goes_on.to_string());
    world.run("data", &["mirror", "verify", "--json"]).good();
}

#[test]
fn a_moved_tag_is_built_again_once_a_person_accepted_one_of_its_values() {
    let (world, upstream) = world();
    world.git_recipe("node", crate::harness::GOOD, &upstream.url());
    let plan = || world.run("data", &["plan", "node", "v1.0", "--platform", "linux/amd64", "--json"]);
    plan().good();
    let moved = upstream.commit("moved\n");
    upstream.tag("v1.0", moved, Some(&world.maintainer));
    sync(&world);
    plan().refused(3, &["tag v1.0", "upstream now says"]);
    world.run("data", &["mirror", "accept", "node", "v1.0"]).good();
    plan().good();
    let log = world.run("data", &["mirror", "log", "node", "--json"]).good();
    let kinds: Vec<_> = log.json.as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["new", "new", "fast-forward", "tag-moved", "accepted"]);
}

#[test]
fn the_verified_view_shows_only_what_the_policy_accepts() {
    let (world, upstream) = world();
    upstream.tag("v1.1", upstream.commit("two\n"), None);
    upstream.tag("v1.2", upstream.commit("three\n"), Some(&cert("somebody")));
    sync(&world);
    let serving = Serving::start(&world);
    let view = serving.url("/git/verified/node.git");
    assert_eq!(served_refs(world.folder.path(), &view), ["refs/tags/v1.0"]);
    assert_eq!(served_refs(world.folder.path(), &serving.url("/git/node.git")).len(), 4);
    git(world.folder.path(), &["clone", "-q", "--bare", &view, "clone"]);
    git(&world.path("clone"), &["fsck", "--full"]);
    assert_eq!(git(&world.path("clone"), &["rev-list", "--count", "--all"]), "1");
    upstream.tag("v1.3", upstream.commit("four\n"), Some(&world.maintainer));
    sync(&world);
    assert_eq!(served_refs(world.folder.path(), &view), ["refs/tags/v1.0", "refs/tags/v1.3"]);
    // A stricter policy shows less at once.
    world.policy("maintainers", "[require.it]\nkind = \"tag\"\nthreshold = 1", &[("x", &cert("x"))]);
    fs::write(world.path("certificates/x.gpg"), crate::harness::export(&cert("x"))).unwrap();
    sync(&world);
    let (status, body) = serving.get("/git/verified/node.git/info/refs?service=git-upload-pack");
    assert_eq!(status, 404, "not an empty repository, which would say nothing");
    assert!(String::from_utf8(body).unwrap().contains("accepts no ref of node yet"));
}

#[test]
fn a_branch_is_verified_when_its_history_is_judged() {
    let (world, upstream) = world();
    let root = upstream.commit("root\n");
    let text = format!(
        "accept = {{ any = [\"tag\", \"history\"] }}\n[require.tag]\nkind = \"tag\"\nthreshold = 1\n\
         [require.history]\nkind = \"commit-chain\"\nroot = \"{root}\"\ntree-sha512 = false\n"
    );
    world.policy("maintainers", &text, &[("m", &world.maintainer)]);
    let good = upstream.signed_commit("signed\n", &world.maintainer);
    sync(&world);
    let serving = Serving::start(&world);
    let view = serving.url("/git/verified/node.git");
    let main = || git(world.folder.path(), &["ls-remote", &view, "refs/heads/main"]);
    assert!(main().is_empty());
    world.run("data", &["mirror", "upkeep", "node"]).good();
    assert!(main().starts_with(&good.to_string()));
    // An unsigned commit is mirrored, but the view does not move.
    upstream.commit("unsigned\n");
    sync(&world);
    assert!(main().starts_with(&good.to_string()));
    world.run("data", &["mirror", "upkeep", "node"]).good();
    assert!(main().is_empty(), "what is at its tip now is accepted by nobody");
}

#[test]
fn forks_keep_their_objects_together() {
    let (world, upstream) = world();
    for n in 0..20 {
        upstream.commit(&format!("{n}\n"));
    }
    git(world.folder.path(), &["clone", "-q", "--bare", &upstream.url(), "fork.git"]);
    let fork = Upstream::existing(&world.path("fork.git"));
    let only = fork.commit("only in the fork\n");
    add(&world, "fork", &fork.url(), &["--fork-of", "node"]);
    world
        .run("data", &["mirror", "add", "third", &fork.url(), "--fork-of", "fork"])
        .refused(2, &["a fork itself"]);
    sync(&world);
    world.run("data", &["mirror", "sync", "fork"]).good();
    let packs =
        |name: &str| fs::read_dir(world.path(&format!("data/git/{name}.git/objects/pack"))).unwrap().count();
    assert_eq!(packs("fork"), 0);
    world.run("data", &["mirror", "upkeep"]).good();
    let serving = Serving::start(&world);
    git(world.folder.path(), &["clone", "-q", "--bare", &serving.url("/git/fork.git"), "clone"]);
    assert_eq!(git(&world.path("clone"), &["rev-parse", "main"]), only.to_string());
    git(&world.path("clone"), &["fsck", "--full", "--strict"]);
    // Only the new objects were sent: a commit, a tree and a blob.
    let second = fork.commit("more\n");
    let before = packs("node");
    world.run("data", &["mirror", "sync", "fork"]).good();
    assert!(packs("node") > before);
    let sizes = fs::read_dir(world.path("data/git/node.git/objects/pack")).unwrap().flatten();
    let sizes = sizes.filter(|e| e.path().extension().is_some_and(|e| e == "pack"));
    assert!(sizes.map(|e| e.metadata().unwrap().len()).min().unwrap() < 500);
    world.run("data", &["mirror", "verify", "--json"]).good();
    assert!(git(&world.path("data/git/node.git"), &["cat-file", "-t", &second.to_string()]) == "commit");
}

#[test]
fn a_service_brings_what_it_follows_up_to_date_by_itself() {
    let (world, upstream) = world();
    sync(&world);
    // Pretend that the last try was two hours ago, so that a sync is due.
    let state = world.path("data/git/node.state");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    text["tried"] = (text["tried"].as_i64().unwrap() - 7200).into();
    fs::write(&state, text.to_string()).unwrap();
    let later = upstream.commit("later\n");
    let serving = Serving::start(&world);
    let start = Instant::now();
    let url = serving.url("/git/node.git");
    while !git(world.folder.path(), &["ls-remote", &url, "refs/heads/main"]).starts_with(&later.to_string()) {
        assert!(start.elapsed() < Duration::from_secs(30), "it was not synced");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_cannot_be_added_or_synced_is_said_in_a_sentence() {
    let (world, upstream) = world();
    let run = |words: &[&str]| world.run("data", &[&["mirror"], words, &["--json"]].concat());
    run(&["add", "node", "https://h.invalid/x"]).refused(2, &["there is a project node already"]);
    run(&["add", "../x", "https://h.invalid/x"]).refused(2, &["a project's name"]);
    run(&["add", "x", "ext::sh -c true"]).refused(2, &["cannot fetch from ext::sh -c true"]);
    run(&["add", "x", "https://h.invalid/x", "--ref", "main"]).refused(2, &["not a ref's full name"]);
    run(&["add", "x", "https://h.invalid/x", "--interval", "1s"]).refused(2, &["at least a minute"]);
    run(&["add", "x", "https://h.invalid/x", "--policy", "nobody"]).refused(2, &["no policy nobody"]);
    run(&["sync", "nobody"]).refused(2, &["there is no project nobody", "mirror add nobody"]);
    run(&["sync", "node", "--offline"]).refused(4, &["nothing is fetched offline"]);
    run(&["accept", "node", "main"]).refused(2, &["node is not mirrored here"]);
    fs::remove_dir_all(world.path("upstream.git")).unwrap();
    run(&["sync", "node"]).refused(4, &["git ls-remote failed", &upstream.url()]);
    let row = run(&["list"]).good().json[0].clone();
    assert_eq!((row["state"]["failures"].as_u64(), row["refs"].as_u64()), (Some(1), Some(0)));
    // All shipped project files can be read.
    assert!(run(&["list", "--all"]).good().json.as_array().unwrap().len() > 20);
}
