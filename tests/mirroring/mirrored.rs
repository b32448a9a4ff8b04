//! Messages to the operator and to clients when something is wrong with a mirror; and removing a mirror.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Outcome, Serving, Upstream, World};
use git2::Repository;

/// A world in which `node` is a project whose tags the maintainer signs.
pub fn world() -> (World, Upstream) {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.tag("v1.0", upstream.commit("one\n"), Some(&world.maintainer));
    world.run("data", &["mirror", "add", "node", &upstream.url(), "--policy", "maintainers"]).good();
    (world, upstream)
}

pub fn mirror(world: &World, words: &[&str]) -> Outcome {
    world.run("data", &[&["mirror"], words, &["--json"]].concat())
}

fn row(world: &World) -> serde_json::Value {
    mirror(world, &["list"]).good().json[0].clone()
}

/// Runs git as a stranger has it.
pub fn stock(folder: &Path, words: &[&str]) -> Output {
    Command::new("git")
        .args(words)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
pub fn git(folder: &Path, words: &[&str]) -> String {
    let output = stock(folder, words);
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a policy that accepts histories from `root` on, and tags as before.
pub fn judge_histories(world: &World, root: git2::Oid) {
    let text = format!(
        "accept = {{ any = [\"tag\", \"history\"] }}\n[require.tag]\nkind = \"tag\"\nthreshold = 1\n\
         [require.history]\nkind = \"commit-chain\"\nroot = \"{root}\"\ntree-sha512 = false\n"
    );
    world.policy("maintainers", &text, &[("m", &world.maintainer)]);
}

#[test]
fn a_project_that_was_never_synced_is_not_served_as_an_empty_repository() {
    let (world, _upstream) = world();
    fs::rename(world.path("upstream.git"), world.path("away.git")).unwrap();
    mirror(&world, &["sync", "node"]).refused(4, &["git ls-remote failed"]);
    let serving = Serving::start(&world);
    let (status, body) = serving.get("/git/node.git/info/refs?service=git-upload-pack");
    assert_eq!(status, 404);
    assert!(String::from_utf8(body).unwrap().contains("node was never synced"));
    let cloned = stock(world.folder.path(), &["clone", &serving.url("/git/node.git"), "clone"]);
    assert!(!cloned.status.success());
    assert!(said(&cloned).contains("remote: node was never synced"), "{}", said(&cloned));
    // After a sync, an empty upstream is served as an empty repository.
    fs::rename(world.path("away.git"), world.path("upstream.git")).unwrap();
    mirror(&world, &["sync", "node"]).good();
    git(world.folder.path(), &["clone", "-q", &serving.url("/git/node.git"), "clone"]);
}

#[test]
fn the_list_shows_the_last_error_what_waits_and_what_upstream_deleted() {
    let (world, upstream) = world();
    upstream.lightweight_tag("gone", upstream.commit("two\n"));
    mirror(&world, &["sync", "node"]).good();
    upstream.delete_tag("gone");
    upstream.tag("v1.0", upstream.commit("three\n"), Some(&world.maintainer));
    let synced = mirror(&world, &["sync", "node"]).good();
    assert_eq!(synced.json[0]["deleted"], 1);
    let repository = Repository::open(world.path("upstream.git")).unwrap();
    for name in ["refs/heads/main", "refs/tags/v1.0"] {
        repository.find_reference(name).unwrap().delete().unwrap();
    }
    // The upstream has lost all its refs.
    let wiped = mirror(&world, &["sync", "node"]);
    assert!(wiped.stderr.contains("hint: `hab-build mirror log node`"), "{}", wiped.stderr);
    wiped.refused(3, &["none of the refs of node any more", "the 3 that are mirrored here stay"]);
    let listed = mirror(&world, &["list"]).good();
    for line in [
        "failed once since",
        "last error: ",
        "none of the refs of node any more",
        "waiting for `hab-build mirror accept node`: refs/tags/v1.0",
        "3 refs are deleted upstream and kept here",
    ] {
        assert!(listed.stderr.contains(line), "no {line:?} in {}", listed.stderr);
    }
    let row = &listed.json[0];
    assert_eq!((row["deleted"].as_u64(), row["refs"].as_u64()), (Some(3), Some(3)));
    assert_eq!((row["state"]["errors"].as_u64(), row["branch"].as_str()), (Some(1), Some("refs/heads/main")));
}

#[test]
fn a_broken_journal_is_named_in_the_list_with_what_to_do() {
    let (world, _upstream) = world();
    mirror(&world, &["sync", "node"]).good();
    let path = world.path("data/git/node.journal");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"new\"", "\"restored\"", 1)).unwrap();
    let listed = mirror(&world, &["list"]).good();
    assert!(listed.stderr.contains("BROKEN") && !listed.stderr.contains("never synced"), "{}", listed.stderr);
    assert!(listed.stderr.contains("broken: line 2 of"), "{}", listed.stderr);
    let row = &listed.json[0];
    assert!(row["hint"].as_str().unwrap().contains("hab-build mirror remove node"), "{row}");
    assert_eq!(row["refs"], 2, "what can be said without the journal is said");
    let synced = mirror(&world, &["sync", "node"]);
    assert!(synced.stderr.contains("hint: put "), "{}", synced.stderr);
    synced.refused(3, &["line 2 of", "ref journal"]);
    // The commands of the hint work.
    mirror(&world, &["remove", "node", "--yes"]).good();
    mirror(&world, &["sync", "node"]).good();
    mirror(&world, &["verify", "node"]).good();
}

#[test]
fn removing_a_mirror_asks_says_what_goes_and_keeps_the_journal() {
    let (world, upstream) = world();
    git(world.folder.path(), &["clone", "-q", "--bare", &upstream.url(), "fork.git"]);
    let fork = Upstream::existing(&world.path("fork.git"));
    mirror(&world, &["add", "fork", &fork.url(), "--fork-of", "node"]).good();
    mirror(&world, &["sync", "node", "fork"]).good();
    upstream.tag("v1.0", upstream.commit("two\n"), Some(&world.maintainer));
    mirror(&world, &["sync", "node"]).good();
    let journal = fs::read(world.path("data/git/node.journal")).unwrap();
    mirror(&world, &["remove", "nobody"]).refused(2, &["nobody is not mirrored here"]);
    mirror(&world, &["remove", "node", "--yes"])
        .refused(2, &["the objects of its forks", "mirror remove fork"]);
    mirror(&world, &["remove", "fork", "--yes"]).good();
    let asked = mirror(&world, &["remove", "node"]);
    for line in [
        "would go: the mirror of node with 2 branches and tags",
        "with it: 1 value that",
        "undecided: refs/tags/v1.0",
    ] {
        assert!(asked.stderr.contains(line), "no {line:?} in {}", asked.stderr);
    }
    asked.refused(2, &["nothing was removed", "hab-build mirror remove node --yes"]);
    assert_eq!(row(&world)["refs"], 2);
    let removed = mirror(&world, &["remove", "node", "--yes"]).good();
    assert_eq!((removed.json["refs"].as_u64(), removed.json["history"].as_u64()), (Some(2), Some(1)));
    let kept = removed.json["journal"].as_str().unwrap();
    assert_eq!(fs::read(kept).unwrap(), journal);
    for path in
        ["data/git/node.git", "data/git/node.state", "data/git/node.journal", "data/git/verified/node.git"]
    {
        assert!(!world.path(path).exists(), "{path}");
    }
    assert!(mirror(&world, &["list"]).good().json.as_array().unwrap().is_empty());
    // `node` is still a project. A new mirror begins with a new journal, and reports what changed since the removal.
    let again = mirror(&world, &["sync", "node"]).good();
    assert!(
        again.stderr.contains("refs changed since the project was removed: refs/tags/v1.0 was "),
        "{}",
        again.stderr
    );
    assert!(!again.stderr.contains("refs/heads/main was"), "a branch may go on");
    mirror(&world, &["verify", "node"]).good();
    assert_eq!(row(&world)["frozen"].as_array().unwrap().len(), 0);
    mirror(&world, &["remove", "node", "--yes"]).good();
    assert_eq!(fs::read_dir(world.path("data/git/removed")).unwrap().count(), 3);
}

#[test]
fn a_removal_that_was_killed_is_swept_up() {
    let (world, _upstream) = world();
    mirror(&world, &["sync", "node"]).good();
    fs::rename(world.path("data/git/node.git"), world.path("data/git/node.removed")).unwrap();
    let swept = mirror(&world, &["gc"]).good();
    assert_eq!(swept.json[0]["path"], "git/node.removed");
    assert!(!world.path("data/git/node.removed").exists());
}

#[test]
fn all_that_waits_is_accepted_after_it_was_listed_and_only_when_a_person_says_so() {
    let (world, upstream) = world();
    let one = upstream.commit("two\n");
    upstream.commit("three\n");
    mirror(&world, &["sync", "node"]).good();
    let listed = mirror(&world, &["accept", "node"]).good();
    assert!(listed.json.as_array().unwrap().is_empty() && listed.stderr.contains("no ref of node waits"));
    upstream.rewind(one);
    let other = upstream.commit("another three\n");
    upstream.tag("v1.0", other, Some(&world.maintainer));
    mirror(&world, &["sync", "node"]).good();
    let listed = mirror(&world, &["accept", "node"]).good();
    assert_eq!(listed.json[0]["ref"], "refs/heads/main");
    assert_eq!(
        (listed.json[0]["kind"].as_str(), &listed.json[0]["new"]),
        (Some("rewritten"), &other.to_string().into())
    );
    let asked = mirror(&world, &["accept", "node", "--all"]);
    assert!(asked.stderr.contains("refs/heads/main is ") && asked.stderr.contains("refs/tags/v1.0 is "));
    asked.refused(2, &["nothing was accepted", "--all --yes"]);
    mirror(&world, &["accept", "node", "v1.0", "--all"]).refused(2, &[]);
    assert_eq!(row(&world)["frozen"].as_array().unwrap().len(), 2);
    let done = mirror(&world, &["accept", "node", "--all", "--yes"]).good();
    assert_eq!(done.json.as_array().unwrap().len(), 2);
    assert_eq!(done.json[0]["new"], other.to_string());
    assert_eq!(row(&world)["frozen"].as_array().unwrap().len(), 0);
    mirror(&world, &["verify", "node"]).good();
}

#[test]
fn a_failed_build_leaves_no_empty_mirror_behind() {
    let world = World::new();
    world.git_recipe("gone", crate::harness::GOOD, &world.path("nothing.git").display().to_string());
    let build = |more: &[&str]| {
        world.run("data", &[&["gone", "v1.0", "--platform", "linux/amd64", "--json"], more].concat())
    };
    build(&[]).refused(4, &["git ls-remote failed"]);
    build(&["--offline"]).refused(4, &["tag v1.0 of gone is not mirrored here"]);
    assert!(!world.path("data/git/gone.git").exists() && !world.path("data/git/gone.state").exists());
    assert!(mirror(&world, &["list"]).good().json.as_array().unwrap().is_empty());
    // A mirror that existed before loses nothing.
    let upstream = Upstream::new(&world.path("nothing.git"));
    upstream.tag("v0.9", upstream.commit("one\n"), None);
    build(&[]).refused(2, &["gone has no tag v1.0"]);
    fs::remove_dir_all(world.path("nothing.git")).unwrap();
    build(&[]).refused(4, &["git ls-remote failed"]);
    assert_eq!(row(&world)["refs"], 2);
}

#[test]
fn every_version_of_the_protocol_gives_what_is_advertised() {
    let (world, upstream) = world();
    let inner = upstream.commit("two\n");
    upstream.commit("three\n");
    mirror(&world, &["sync", "node"]).good();
    let serving = Serving::start(&world);
    let url = serving.url("/git/node.git");
    let folder = world.path("clones");
    fs::create_dir(&folder).unwrap();
    for number in ["0", "1", "2"] {
        let version = format!("protocol.version={number}");
        let run = |place: &Path, words: &[&str]| git(place, &[&["-c", &version], words].concat());
        for (filter, depth) in [("blob:none", ""), ("tree:0", ""), ("blob:limit=1", "--depth=1")] {
            let name = format!("{}{number}", filter.replace([':', '='], "-"));
            let filter = format!("--filter={filter}");
            let words = ["clone", "-q", &filter, &url, &name, depth];
            run(&folder, &words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>());
            // git fetches omitted objects by their ids, which are not ids of tips.
            let clone = folder.join(&name);
            assert_eq!(fs::read_to_string(clone.join("message")).unwrap(), "three\n");
            if depth.is_empty() {
                run(&clone, &["cat-file", "-e", &format!("{inner}:message")]);
                assert_eq!(run(&clone, &["show", &format!("{inner}:message")]), "two");
            }
        }
        // Fetch a commit that no ref names.
        let bare = format!("bare{number}");
        git(&folder, &["init", "-q", "--bare", &bare]);
        run(&folder.join(&bare), &["fetch", "-q", &url, &inner.to_string()]);
        run(&folder.join(&bare), &["fetch", "-q", "--depth=1", &url, &inner.to_string()]);
        run(&folder.join(&bare), &["fetch", "-q", "--deepen=1", &url, &inner.to_string()]);
        run(&folder.join(&bare), &["fetch", "-q", "--shallow-since=2000-01-01", &url, "refs/heads/main"]);
    }
}

#[test]
fn submodules_and_lfs_are_named_when_a_project_is_synced_and_in_the_list() {
    let (world, upstream) = world();
    let repository = Repository::open(world.path("upstream.git")).unwrap();
    let first = upstream.commit("two\n");
    let blob = |text: &str| repository.blob(text.as_bytes()).unwrap();
    let mut tree = repository.treebuilder(None).unwrap();
    let modules = "[submodule \"lib\"]\n\tpath = lib\n\turl = https://h.invalid/lib.git\n";
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1000\n";
    tree.insert(".gitmodules", blob(modules), 0o100_644).unwrap();
    tree.insert(".gitattributes", blob("*.bin filter=lfs\n"), 0o100_644).unwrap();
    tree.insert("a.bin", blob(pointer), 0o100_644).unwrap();
    tree.insert("lib", first, 0o160_000).unwrap();
    let tree = repository.find_tree(tree.write().unwrap()).unwrap();
    let parent = repository.find_commit(first).unwrap();
    let who = parent.author();
    repository.commit(Some("refs/heads/main"), &who, &who, "with", &tree, &[&parent]).unwrap();
    let synced = mirror(&world, &["sync", "node"]).good();
    for line in ["(submodules): lib", "Git LFS keeps them elsewhere: 1 file of 1000 bytes"] {
        assert!(synced.stderr.contains(line), "no {line:?} in {}", synced.stderr);
    }
    assert_eq!(synced.json[0]["lacking"]["submodules"][0]["path"], "lib");
    let listed = mirror(&world, &["list"]).good();
    assert!(listed.stderr.contains("submodules are not mirrored with it: lib"), "{}", listed.stderr);
    let lacking = &listed.json[0]["state"]["lacking"];
    assert_eq!(lacking["submodules"][0]["url"], "https://h.invalid/lib.git");
    assert_eq!((lacking["lfs_files"].as_u64(), lacking["lfs_bytes"].as_u64()), (Some(1), Some(1000)));
}

/// The value of a sample in `/metrics`, by its whole name.
fn figure(serving: &Serving, name: &str) -> Option<String> {
    let (status, body) = serving.get("/metrics");
    assert_eq!(status, 200);
    let text = String::from_utf8(body).unwrap();
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    let start = format!("{name}{{project=\"node\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn metrics_tell_of_each_mirrored_project() {
    let (world, upstream) = world();
    mirror(&world, &["sync", "node"]).good();
    let serving = Serving::start_with(&world, "data", &["--no-sync"]);
    let is = |name: &str, value: &str| figure(&serving, name).as_deref() == Some(value);
    wait_until("the first look", || is("hab_mirror_refs", "2"));
    let number = |name: &str| figure(&serving, name).unwrap().parse::<i64>().unwrap();
    assert!(
        is("hab_mirror_frozen_refs", "0")
            && is("hab_mirror_errors_total", "0")
            && is("hab_mirror_broken", "0")
    );
    assert!(number("hab_mirror_size_bytes") > 1000);
    assert!(number("hab_mirror_last_sync_timestamp_seconds") > 1_700_000_000);
    assert!((0..600).contains(&number("hab_mirror_age_seconds")));
    // Changes by another process are seen too.
    upstream.tag("v1.0", upstream.commit("two\n"), None);
    mirror(&world, &["sync", "node"]).good();
    wait_until("a ref that waits", || is("hab_mirror_frozen_refs", "1"));
    fs::rename(world.path("upstream.git"), world.path("away.git")).unwrap();
    mirror(&world, &["sync", "node"]).refused(4, &[]);
    wait_until("a failure", || is("hab_mirror_failures", "1") && is("hab_mirror_errors_total", "1"));
    mirror(&world, &["remove", "node", "--yes"]).good();
    wait_until("nothing", || figure(&serving, "hab_mirror_refs").is_none());
}

#[test]
fn a_sync_that_is_interrupted_does_not_say_that_it_will_resume() {
    let (world, _upstream) = world();
    // A client that connects here waits for ever.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.git", silent.local_addr().unwrap());
    mirror(&world, &["add", "slow", &url]).good();
    let child = world.start("data", &["mirror", "sync", "slow"]);
    let _client = silent.accept().unwrap();
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let outcome = Outcome::of(&child.wait_with_output().unwrap());
    assert!(!outcome.stderr.contains("resumes"), "{}", outcome.stderr);
    outcome.refused(130, &["mirroring slow was stopped", "the next sync begins anew"]);
    assert!(!world.path("data/git/slow.incoming").exists());
}
