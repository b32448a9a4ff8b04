//! Repositories, objects and files that are not what they should be, and whose fault that is.

use std::process::Command;

use super::mirrored::{git, judge_histories, mirror, world};
use git2::{ObjectType, Repository};

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
        "tree {tree}\r\nauthor n <e@x.invalid> 1600000000 +0000\r\ncommitter n <e@x.invalid> 1600000000 \
         +0000\r\n\r\nx\r\n"
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
        let kept = crate::harness::files_below(&world.path("data/blobs/sha256"));
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
