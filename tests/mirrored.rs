//! Messages to the operator and to clients when something is wrong with a mirror; and removing a mirror.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use git2::{ObjectType, Repository};
use harness::{Outcome, Serving, Upstream, World};

/// A world in which `node` is a project whose tags the maintainer signs.
fn world() -> (World, Upstream) {
    let world = World::new();
    let upstream = Upstream::new(&world.path("upstream.git"));
    upstream.tag("v1.0", upstream.commit("one\n"), Some(&world.maintainer));
    world.run("data", &["mirror", "add", "node", &upstream.url(), "--policy", "maintainers"]).good();
    (world, upstream)
}

fn mirror(world: &World, words: &[&str]) -> Outcome {
    world.run("data", &[&["mirror"], words, &["--json"]].concat())
}

fn row(world: &World) -> serde_json::Value {
    mirror(world, &["list"]).good().json[0].clone()
}

/// Runs git as a stranger has it.
fn stock(folder: &Path, words: &[&str]) -> Output {
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
fn git(folder: &Path, words: &[&str]) -> String {
    let output = stock(folder, words);
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a policy that accepts histories from `root` on, and tags as before.
fn judge_histories(world: &World, root: git2::Oid) {
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
fn mirror_view_says_why_a_ref_is_missing_from_the_verified_view() {
    let (world, upstream) = world();
    upstream.tag("v1.1", upstream.commit("two\n"), None);
    upstream.lightweight_tag("light", upstream.commit("three\n"));
    let root = upstream.commit("root\n");
    mirror(&world, &["sync", "node"]).good();
    let why = |words: &[&str], name: &str| {
        let view = mirror(&world, &[&["view", "node"], words].concat()).good().json;
        let one = view.as_array().unwrap().iter().find(|one| one["ref"] == name).unwrap().clone();
        (one["shown"].is_string(), one["why"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(why(&[], "refs/tags/v1.0"), (true, String::new()));
    assert!(why(&[], "refs/tags/v1.1").1.contains("carries no signature"));
    assert!(why(&["light"], "refs/tags/light").1.contains("no signature"));
    assert!(why(&[], "refs/heads/main").1.contains("judges tags only"));
    judge_histories(&world, root);
    assert!(why(&[], "refs/heads/main").1.contains("hab-build mirror view node BRANCH"));
    upstream.commit("unsigned\n");
    mirror(&world, &["sync", "node"]).good();
    assert!(why(&["main"], "refs/heads/main").1.contains("it is not signed"));
    let good = upstream.signed_commit("signed\n", &world.maintainer);
    judge_histories(&world, good);
    mirror(&world, &["sync", "node"]).good();
    assert!(why(&["main"], "refs/heads/main").1.contains("it is accepted now"));
    mirror(&world, &["view", "node", "v9"]).refused(2, &["node has no ref v9"]);
    // Without a certificate nothing is accepted, and the reason says so.
    fs::remove_file(world.path("certificates/maintainer.gpg")).unwrap();
    mirror(&world, &["sync", "node"]).good();
    assert!(why(&[], "refs/tags/v1.0").1.contains("no certificate"));
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
fn a_clone_of_the_verified_view_checks_a_branch_out_or_says_why_there_is_none() {
    let (world, upstream) = world();
    let root = upstream.commit("root\n");
    let repository = Repository::open(world.path("upstream.git")).unwrap();
    repository.reference("refs/heads/old", root, true, "test").unwrap();
    repository.set_head("refs/heads/main").unwrap();
    upstream.commit("unsigned\n");
    mirror(&world, &["sync", "node"]).good();
    let serving = Serving::start_with(&world, "data", &["--no-sync"]);
    let view = serving.url("/git/verified/node.git");
    // The view has only tags: there is something to fetch and nothing to check out.
    for (at, version) in ["protocol.version=0", "protocol.version=1", "protocol.version=2"].iter().enumerate()
    {
        let cloned = stock(world.folder.path(), &["-c", version, "clone", &view, &format!("tags{at}")]);
        assert!(cloned.status.success(), "{}", said(&cloned));
        let sentence =
            "remote: nothing is checked out: refs/heads/main is not accepted by policy maintainers";
        assert!(said(&cloned).contains(sentence), "{}", said(&cloned));
        assert!(said(&cloned).contains("check out a tag"), "{}", said(&cloned));
        git(&world.path(&format!("tags{at}")), &["checkout", "-q", "v1.0"]);
    }
    // One branch is accepted, but not the one that HEAD names.
    judge_histories(&world, root);
    mirror(&world, &["upkeep", "node"]).good();
    let cloned = stock(world.folder.path(), &["clone", &view, "old"]);
    assert!(
        cloned.status.success() && !said(&cloned).contains("nothing is checked out"),
        "{}",
        said(&cloned)
    );
    assert_eq!(git(&world.path("old"), &["branch", "--show-current"]), "old");
    // Now the branch that HEAD names is accepted.
    let main = repository.find_reference("refs/heads/main").unwrap().target().unwrap();
    judge_histories(&world, main);
    mirror(&world, &["upkeep", "node"]).good();
    git(world.folder.path(), &["clone", "-q", &view, "main"]);
    assert_eq!(git(&world.path("main"), &["branch", "--show-current"]), "main");
    // A view without refs is an error for the client, not an empty repository.
    fs::remove_file(world.path("certificates/maintainer.gpg")).unwrap();
    mirror(&world, &["sync", "node"]).good();
    let cloned = stock(world.folder.path(), &["clone", &view, "nothing"]);
    assert!(!cloned.status.success());
    assert!(
        said(&cloned).contains("remote: policy maintainers accepts no ref of node yet"),
        "{}",
        said(&cloned)
    );
}

#[test]
fn a_project_without_a_policy_has_no_verified_view_and_says_so() {
    let (world, upstream) = world();
    mirror(&world, &["add", "plain", &upstream.url()]).good();
    mirror(&world, &["sync", "plain"]).good();
    mirror(&world, &["view", "plain"]).refused(2, &["plain has no policy"]);
    let serving = Serving::start(&world);
    let (status, body) = serving.get("/git/verified/plain.git/info/refs?service=git-upload-pack");
    assert_eq!(status, 404);
    assert!(String::from_utf8(body).unwrap().contains("plain has no policy"));
}

#[test]
fn a_failed_build_leaves_no_empty_mirror_behind() {
    let world = World::new();
    world.git_recipe("gone", harness::GOOD, &world.path("nothing.git").display().to_string());
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

#[test]
fn what_is_no_repository_or_names_objects_otherwise_is_the_request_s_fault() {
    let (world, _upstream) = world();
    git(world.folder.path(), &["init", "-q", "--object-format=sha256", "new"]);
    let new = world.path("new").display().to_string();
    for (repository, words) in [("/etc", "/etc is not a git repository"), (new.as_str(), "SHA-256")] {
        for kind in ["tag", "commits"] {
            let words_of = ["verify", kind, repository, "v1.0", "--policy", "maintainers", "--json"];
            world.run("data", &words_of).refused(2, &[words]);
        }
    }
    git(world.folder.path(), &["init", "-q", "--bare", "--object-format=sha256", "-b", "main", "up.git"]);
    let up = world.path("up.git");
    let tree = git(&up, &["hash-object", "-w", "-t", "tree", "/dev/null"]);
    let who = ["-c", "user.name=n", "-c", "user.email=e"];
    let commit = git(&up, &[&who[..], &["commit-tree", "-m", "x", &tree]].concat());
    git(&up, &["update-ref", "refs/heads/main", &commit]);
    mirror(&world, &["add", "new", &up.display().to_string()]).good();
    mirror(&world, &["sync", "new"]).refused(3, &["SHA-256"]);
    let listed = mirror(&world, &["list"]).good();
    assert!(listed.stderr.contains("last error") && listed.stderr.contains("SHA-256"), "{}", listed.stderr);
}

#[test]
fn what_is_no_file_is_not_imported_nor_waited_for() {
    let (world, _upstream) = world();
    let pipe = world.path("pipe").display().to_string();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for file in [pipe.as_str(), "/etc", "/dev/null"] {
        mirror(&world, &["import", file]).refused(2, &["it is a folder, a pipe or a device"]);
        let out = world.path("out").display().to_string();
        mirror(&world, &["export", &out, "--since", file]).refused(2, &["a folder, a pipe or a device"]);
    }
    mirror(&world, &["import", "/nothing"]).refused(2, &["/nothing does not exist"]);
}

#[test]
fn objects_whose_headers_end_in_carriage_returns_are_refused_and_no_fault_of_ours() {
    let (world, upstream) = world();
    let commit = upstream.commit("two\n");
    let repository = Repository::open(world.path("upstream.git")).unwrap();
    let tag = format!(
        "object {commit}\r\ntype commit\r\ntag crlf\r\ntagger n <e@x.invalid> 1600000001 +0000\r\n\r\nRelease\r\n"
    );
    let id = repository.odb().unwrap().write(ObjectType::Tag, tag.as_bytes()).unwrap();
    repository.reference("refs/tags/crlf", id, true, "test").unwrap();
    let path = world.path("upstream.git").display().to_string();
    let judge = |kind: &str, name: &str| {
        world.run("data", &["verify", kind, &path, name, "--policy", "maintainers", "--json"])
    };
    judge("tag", "crlf").refused(3, &["tag crlf"]);
    let tree = repository.find_commit(commit).unwrap().tree_id();
    let text = format!(
        "tree {tree}\r\nauthor n <e@x.invalid> 1600000000 +0000\r\ncommitter n <e@x.invalid> 1600000000 +0000\r\n\r\nx\r\n"
    );
    let odd = repository.odb().unwrap().write(ObjectType::Commit, text.as_bytes()).unwrap();
    let tag =
        format!("object {odd}\ntype commit\ntag odd\ntagger n <e@x.invalid> 1600000001 +0000\n\nRelease\n");
    let id = repository.odb().unwrap().write(ObjectType::Tag, tag.as_bytes()).unwrap();
    repository.reference("refs/tags/odd", id, true, "test").unwrap();
    judge("tag", "odd").refused(3, &["odd"]);
    judge_histories(&world, commit);
    judge("commits", &odd.to_string()).refused(3, &[]);
    // The upstream's own git does not send these objects to anybody.
    let synced = mirror(&world, &["sync", "node"]);
    assert!(synced.stderr.contains("cannot give all objects that its own refs need"), "{}", synced.stderr);
    synced.refused(4, &["git clone failed"]);
}

#[test]
fn what_a_shallow_or_partial_clone_lacks_is_no_verdict() {
    let (world, upstream) = world();
    let root = upstream.commit("root\n");
    judge_histories(&world, root);
    upstream.signed_commit("signed\n", &world.maintainer);
    let tip = upstream.signed_commit("signed too\n", &world.maintainer);
    let url = format!("file://{}", upstream.url());
    Repository::open(world.path("upstream.git")).unwrap().set_head("refs/heads/main").unwrap();
    git(world.folder.path(), &["-C", "upstream.git", "config", "uploadpack.allowFilter", "true"]);
    let decisions = || {
        let kept = harness::files_below(&world.path("data/blobs/sha256"));
        kept.values().filter(|bytes| String::from_utf8_lossy(bytes).contains("\"question\"")).count()
    };
    let judge = |clone: &str| {
        let path = world.path(clone).display().to_string();
        world
            .run("data", &["verify", "commits", &path, &tip.to_string(), "--policy", "maintainers", "--json"])
    };
    git(world.folder.path(), &["clone", "-q", "--bare", "--depth=1", &url, "shallow"]);
    judge("shallow").refused(2, &["is not in the repository", "shallow or partial clone", "--unshallow"]);
    // The trees of commits are hashed only if the policy demands it.
    git(world.folder.path(), &["clone", "-q", "--bare", "--filter=tree:0", &url, "treeless"]);
    judge("treeless").good();
    let before = decisions();
    let text = format!("[require.history]\nkind = \"commit-chain\"\nroot = \"{root}\"\ntree-sha512 = true\n");
    world.policy("maintainers", &text, &[("m", &world.maintainer)]);
    for (filter, clone) in [("--filter=blob:none", "blobless"), ("--filter=tree:0", "treeless2")] {
        git(world.folder.path(), &["clone", "-q", "--bare", filter, &url, clone]);
        judge(clone).refused(2, &["needs something that the repository lacks", "--refetch"]);
    }
    assert_eq!(decisions(), before, "nothing was decided, so nothing is recorded");
    // In a whole clone the missing Tree-SHA512 is a refusal, and the decision is recorded.
    git(world.folder.path(), &["clone", "-q", "--bare", &url, "whole"]);
    judge("whole").refused(3, &["names no Tree-SHA512"]);
    assert_eq!(decisions(), before + 1);
    // A shallow clone that reaches the root is enough.
    judge_histories(&world, root);
    git(world.folder.path(), &["clone", "-q", "--bare", "--depth=2", &url, "deep"]);
    judge("deep").good();
}
