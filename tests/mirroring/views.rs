//! What the verified view of a project shows, and why something is missing from it.

use std::fs;

use super::mirrored::{git, judge_histories, mirror, said, stock, world};
use crate::harness::Serving;
use git2::Repository;

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
