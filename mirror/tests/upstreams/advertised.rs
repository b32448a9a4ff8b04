//! What an upstream says it has.

use std::time::Duration;

use hab_mirror::git::Bounds;

use super::harness::{Say, Server, World, advertise, pkt};

#[test]
fn a_ref_with_an_impossible_name_is_not_mirrored_and_the_others_are() {
    let world = World::new();
    let upstream = world.upstream();
    let commit = upstream.git(&["rev-parse", "main"]);
    let pack = upstream.pack(
        &[&commit, &format!("{commit}^{{tree}}"), &format!("{commit}:message")]
            .map(|rev| upstream.git(&["rev-parse", rev]))
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    for bad in ["refs/heads/../../x", "refs/tags/a\u{7}b", "refs/heads/x.lock", "refs/heads/-x/../y"] {
        let world = World::new();
        let refs = advertise(&[(&commit, "refs/heads/main"), (&commit, bad)]);
        let pack = pack.clone();
        let server = Server::start(move |path| {
            Say::Body(if path.contains("info/refs") {
                refs.clone()
            } else {
                [b"0008NAK\n".to_vec(), pack.clone()].concat()
            })
        });
        match world.sync(&[&server.url()]) {
            Ok(_) => {
                let refs = world.mirror().refs().unwrap();
                assert_eq!(refs.keys().collect::<Vec<_>>(), ["refs/heads/main"], "{bad:?}");
            }
            // git itself may want nothing to do with such an upstream.
            Err(e) => assert!(world.mirror().refs().unwrap().is_empty(), "{bad:?}: {e}"),
        }
        assert!(!world.path("git/x").exists() && !world.path("x").exists());
    }
}

#[test]
fn more_refs_than_are_allowed_are_refused() {
    let mut world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    world.bounds.refs = 10;
    for n in 0..20 {
        upstream.git(&["tag", &format!("t{n}"), "main"]);
    }
    world.refused(&upstream.url(), &["more than 10 refs"]);
}

#[test]
fn ten_million_refs_end_at_the_limit_of_memory() {
    let mut world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    world.bounds = Bounds { memory: 128 << 20, answer: Duration::from_secs(60), ..world.bounds };
    let commit = upstream.git(&["rev-parse", "main"]);
    let mut first = advertise(&[(&commit, "refs/heads/main")]);
    first.truncate(first.len() - 4);
    // The same 10,000 names over and over: git keeps each of them.
    let many = (0..10_000).map(|n| pkt(&format!("{commit} refs/tags/tag-number-{n}\n"))).collect::<String>();
    let server = Server::start(move |_| Say::Endless(first.clone(), many.clone().into_bytes()));
    world.refused(&server.url(), &["git ls-remote failed", "ut of memory"]);
}

#[test]
fn an_empty_repository_is_mirrored_as_one_and_takes_nothing_away() {
    let world = World::new();
    let upstream = world.upstream();
    super::harness::git(world.folder.path(), &["init", "-q", "--bare", "empty.git"]);
    let empty = format!("file://{}", world.path("empty.git").display());
    let synced = world.sync(&[&empty]).unwrap();
    assert_eq!((synced.moved, synced.changes), (0, 0));
    world.sync(&[&upstream.url()]).unwrap();
    assert!(world.notes().contains("has no branch or tag yet"), "{}", world.notes());
    let before = world.mirror().refs().unwrap();
    assert_eq!(before.len(), 2);
    world.refused(&empty, &["has none of the refs of p any more", "the 2 that are mirrored here stay"]);
    assert_eq!(world.mirror().refs().unwrap(), before);
}

#[test]
fn a_head_that_names_nothing_does_not_keep_the_branches_away() {
    let world = World::new();
    let upstream = world.upstream();
    upstream.git(&["symbolic-ref", "HEAD", "refs/heads/gone"]);
    world.sync(&[&upstream.url()]).unwrap();
    assert!(world.mirror().refs().unwrap().contains_key("refs/heads/main"));
    // The only branch is what a clone checks out.
    let head = std::fs::read_to_string(world.path("git/p.git/HEAD")).unwrap();
    assert_eq!(head, "ref: refs/heads/main\n");
}

#[test]
fn a_branch_that_is_no_commit_is_told_and_the_others_come() {
    let world = World::new();
    let upstream = world.upstream();
    let blob = upstream.git(&["rev-parse", "main:message"]);
    std::fs::write(upstream.path.join("refs/heads/odd"), format!("{blob}\n")).unwrap();
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(world.mirror().refs().unwrap().len(), 2);
    assert!(world.notes().contains("names no commit"), "{}", world.notes());
}
