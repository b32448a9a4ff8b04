//! What a run that was killed left half done, what an upstream does to hide things, and what is carried in by hand.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;

use hab_mirror::git::{Allow, RefPattern, SyncRequest};
use hab_oci::Digest;

use super::harness::{Upstream, World, git, git_in};

/// One line of a journal that follows `text`.
fn line(text: &str, kind: &str, name: &str, old: Option<&str>, new: Option<&str>) -> String {
    let previous = text.split_inclusive('\n').next_back().unwrap_or_default();
    let entry = serde_json::json!({
        "seq": text.lines().count(), "at": 1, "upstream": "u", "ref": name, "kind": kind,
        "old": old, "new": new, "previous": Digest::of(previous.as_bytes()).to_string(),
    });
    format!("{entry}\n")
}

fn kinds(world: &World) -> Vec<String> {
    let journal = world.mirror().journal().unwrap();
    journal.entries().iter().map(|e| format!("{} {}", e.kind, e.reference)).collect()
}

#[test]
fn what_was_written_down_and_not_done_is_done_by_the_next_sync() {
    let world = World::new();
    let upstream = world.upstream();
    let first = upstream.git(&["rev-parse", "main"]);
    let second = upstream.commit("two");
    world.sync(&[&upstream.url()]).unwrap();
    // As if the run had been killed between its journal and its refs.
    git(&world.path("git/p.git"), &["update-ref", "refs/heads/main", &first]);
    git(&world.path("git/p.git"), &["update-ref", "-d", "refs/tags/v1"]);
    fs::write(world.path("git/p.git/refs/heads/main.lock"), "").unwrap();
    fs::write(world.path("git/p.git/packed-refs.lock"), "").unwrap();
    // Meanwhile upstream rewrote what it had said.
    upstream.git(&["update-ref", "refs/heads/main", &first]);
    let third = upstream.commit("another two");
    world.sync(&[&upstream.url()]).unwrap();
    let refs = world.mirror().refs().unwrap();
    assert_eq!(
        (refs["refs/heads/main"].as_str(), refs["refs/tags/v1"].as_str()),
        (second.as_str(), first.as_str())
    );
    assert_eq!(kinds(&world), ["new refs/heads/main", "new refs/tags/v1", "rewritten refs/heads/main"]);
    assert!(world.mirror().has(&third).unwrap());
}

#[test]
fn a_decision_that_was_written_down_and_not_done_is_done_by_the_next_sync() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    let old = upstream.git(&["rev-parse", "v1"]);
    let new = upstream.commit("two");
    upstream.git(&["tag", "-f", "v1", "main"]);
    world.sync(&[&upstream.url()]).unwrap();
    world.mirror().accept("v1", None, &world.told).unwrap();
    git(&world.path("git/p.git"), &["update-ref", "refs/tags/v1", &old]);
    git(&world.path("git/p.git"), &["update-ref", "-d", &format!("refs/history/tags/v1/{old}")]);
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(world.mirror().refs().unwrap()["refs/tags/v1"], new);
    assert!(git(&world.path("git/p.git"), &["for-each-ref", "refs/history"]).contains(&old));
}

#[test]
fn a_branch_cannot_be_accepted_as_what_is_no_commit() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    let blob = upstream.git(&["rev-parse", "main:message"]);
    fs::write(upstream.path.join("refs/heads/main"), format!("{blob}\n")).unwrap();
    world.sync(&[&upstream.url()]).unwrap();
    let said = world.mirror().accept("main", None, &world.told).unwrap_err().to_string();
    assert!(said.contains("is not a commit"), "{said}");
    assert!(!kinds(&world).iter().any(|kind| kind.starts_with("accepted")));
}

#[test]
fn a_shallow_upstream_is_refused() {
    let world = World::new();
    let upstream = world.upstream();
    upstream.commit("two");
    git(world.folder.path(), &["clone", "-q", "--bare", "--depth", "1", &upstream.url(), "shallow.git"]);
    let url = format!("file://{}", world.path("shallow.git").display());
    world.refused(&url, &["git clone failed", "shallow"]);
    world.sync(&[&upstream.url()]).unwrap();
    world.whole();
    // Also where something is here already: git then ends well, with a commit whose parent is nowhere.
    upstream.commit("three");
    upstream.commit("four");
    git(&world.path("shallow.git"), &["fetch", "-q", "--depth", "1", "origin", "+main:main"]);
    world.refused(&url, &["git fetch failed", "cut off (shallow)"]);
    assert_eq!(world.mirror().journal().unwrap().entries().len(), 2);
}

#[test]
fn names_that_git_cannot_hold_do_not_keep_the_others_away() {
    let world = World::new();
    let upstream = world.upstream();
    let commit = upstream.git(&["rev-parse", "main"]);
    let mut packed =
        fs::OpenOptions::new().append(true).create(true).open(upstream.path.join("packed-refs")).unwrap();
    packed.write_all(format!("{commit} refs/heads/{}\n", "x".repeat(230)).as_bytes()).unwrap();
    packed.write_all(&[commit.as_bytes(), b" refs/heads/f\xff\n"].concat()).unwrap();
    let odd = format!("refs/heads/\u{9b}2J\u{202e}{}", "y".repeat(1000));
    packed.write_all(format!("{commit} {odd}\n").as_bytes()).unwrap();
    drop(packed);
    for _ in 0..2 {
        world.sync(&[&upstream.url()]).unwrap();
        let refs = world.mirror().refs().unwrap();
        assert_eq!(refs.keys().collect::<Vec<_>>(), ["refs/heads/main", "refs/tags/v1"]);
        upstream.commit("more");
    }
    let notes = world.notes();
    assert_eq!(notes.matches("is not a valid ref name").count(), 6);
    // The name alone, as what it is, and not all of it.
    assert!(notes.contains("upstream has a ref \"refs/heads/f\u{fffd}\" that is not mirrored"), "{notes}");
    assert!(notes.contains(r#"upstream has a ref "refs/heads/\u{9b}2J\u{202e}yyy"#), "{notes}");
    assert!(notes.contains("more bytes)") && !notes.contains(&commit), "{notes}");
}

#[test]
fn a_tag_that_moved_alike_at_two_upstreams_is_frozen_once() {
    let world = World::new();
    let upstream = world.upstream();
    git(world.folder.path(), &["clone", "-q", "--mirror", &upstream.url(), "other.git"]);
    let other = Upstream { path: world.path("other.git") };
    world.sync(&[&upstream.url(), &other.url()]).unwrap();
    upstream.commit("two");
    upstream.git(&["tag", "-f", "v1", "main"]);
    git(&other.path, &["fetch", "-q", &upstream.url(), "+refs/*:refs/*"]);
    let synced = world.sync(&[&upstream.url(), &other.url()]).unwrap();
    assert_eq!(synced.frozen, ["refs/tags/v1"]);
}

#[test]
fn of_many_refs_that_wait_a_sentence_names_a_few() {
    let world = World::new();
    let upstream = world.upstream();
    for n in 0..30 {
        upstream.git(&["tag", &format!("a\u{202e}{n}"), "main"]);
    }
    world.sync(&[&upstream.url()]).unwrap();
    upstream.commit("two");
    for n in 0..30 {
        upstream.git(&["tag", "-f", &format!("a\u{202e}{n}"), "main"]);
    }
    assert_eq!(world.sync(&[&upstream.url()]).unwrap().frozen.len(), 30);
    let said = world.mirror().accept("none", None, &world.told).unwrap_err().to_string();
    assert!(
        said.contains(r"the frozen refs are refs/tags/a\u{202e}0, ") && said.ends_with("… and 10 more"),
        "{said}"
    );
}

/// Carries refs and a journal in by hand, with a bundle that holds `objects` and names `tip`.
fn carry_in(
    world: &World,
    upstream: &Upstream,
    (tip, objects): (&str, &[&str]),
    journal: &str,
    refs: &[(&str, &str)],
) -> Result<(), String> {
    let bundle = world.path("bundle");
    let pack = upstream.pack(objects);
    fs::write(&bundle, [format!("# v2 git bundle\n{tip} refs/heads/main\n\n").as_bytes(), &pack].concat())
        .unwrap();
    fs::write(world.path("journal"), journal).unwrap();
    let refs: BTreeMap<_, _> = refs.iter().map(|(n, id)| ((*n).to_owned(), (*id).to_owned())).collect();
    let wish = SyncRequest {
        urls: &[],
        refs: &RefPattern::usual(),
        allow: Allow::default(),
        tolerate: &[],
        bounds: world.bounds,
        password_file: None,
    };
    let done =
        world.mirror().carry_in(Some(&bundle), &world.path("journal"), &refs, None, &wish, &world.told);
    done.map(drop).map_err(|e| e.to_string())
}

#[test]
fn a_carried_commit_whose_tree_is_nowhere_is_refused() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    let before = world.mirror().refs().unwrap();
    let main = before["refs/heads/main"].clone();
    let tip = upstream.commit("good");
    let good = [tip.clone(), format!("{tip}^{{tree}}"), format!("{tip}:message")];
    let good = good.map(|rev| upstream.git(&["rev-parse", &rev]));
    // A commit of which nothing but itself is in the pack.
    let nowhere = git_in(&upstream.path, &["hash-object", "-w", "--stdin"], b"nowhere");
    let tree = git_in(&upstream.path, &["mktree"], format!("100644 blob {nowhere}\tx\n").as_bytes());
    let evil = upstream.git(&["commit-tree", "-m", "evil", "-p", &main, &tree]);
    let mut objects: Vec<&str> = good.iter().map(String::as_str).collect();
    objects.push(&evil);
    let journal = line("", "new", "refs/heads/main", None, Some(&evil));
    let said =
        carry_in(&world, &upstream, (&tip, &objects), &journal, &[("refs/heads/main", &evil)]).unwrap_err();
    assert!(said.contains("neither in it nor here"), "{said}");
    assert_eq!(world.mirror().refs().unwrap(), before);
    assert!(!world.mirror().has(&evil).unwrap());
    // With what it needs it is an upstream like any other.
    let journal = line("", "new", "refs/heads/main", None, Some(&tip));
    carry_in(&world, &upstream, (&tip, &objects[..3]), &journal, &[("refs/heads/main", &tip)]).unwrap();
    assert_eq!(world.mirror().refs().unwrap()["refs/heads/main"], tip);
}

#[test]
fn a_carried_name_is_a_ref_s_name_and_nothing_more() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    let before = world.mirror().refs().unwrap();
    let tip = upstream.commit("good");
    let all = [tip.clone(), format!("{tip}^{{tree}}"), format!("{tip}:message")];
    let all = all.map(|rev| upstream.git(&["rev-parse", &rev]));
    let objects = all.each_ref().map(String::as_str);
    for name in [
        format!("refs/heads/n {tip} {}\nupdate refs/heads/main", "0".repeat(40)),
        "refs/heads/n\0delete refs/tags/v1".to_owned(),
        "refs/heads/../x".to_owned(),
        "HEAD".to_owned(),
    ] {
        let journal = line("", "new", &name, None, Some(&tip));
        let said = carry_in(&world, &upstream, (&tip, &objects), &journal, &[(&name, &tip)]).unwrap_err();
        assert!(said.contains("is not a valid ref name"), "{said}");
        assert_eq!(world.mirror().refs().unwrap(), before);
    }
    // What this project does not want, and what a mirror keeps for itself, stays outside.
    for name in ["refs/pull/1/head", "refs/known/0/x"] {
        let journal = line("", "new", name, None, Some(&tip));
        let _ = carry_in(&world, &upstream, (&tip, &objects), &journal, &[(name, &tip)]);
        assert_eq!(world.mirror().refs().unwrap(), before, "{name}");
    }
}
