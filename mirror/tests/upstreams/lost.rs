//! Upstreams that have lost what they had, or never had what can be mirrored.

use std::fs;

use hab_mirror::{Fault, MirrorError};

use super::harness::{Upstream, World, git, git_in};

fn fault(world: &World, urls: &[&str]) -> (Fault, MirrorError) {
    let error = world.sync(urls).unwrap_err();
    (error.fault(), error)
}

fn kinds(world: &World) -> Vec<String> {
    let journal = world.mirror().journal().unwrap();
    journal.entries().iter().map(|e| format!("{} {}", e.kind, e.reference)).collect()
}

#[test]
fn a_wiped_upstream_is_refused_its_deletions_are_written_down_once_and_everything_stays() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    let before = upstream.git(&["rev-parse", "main"]);
    upstream.git(&["update-ref", "-d", "refs/heads/main"]);
    upstream.git(&["update-ref", "-d", "refs/tags/v1"]);
    for _ in 0..2 {
        world.refused(
            &upstream.url(),
            &["none of the refs of p any more", "the 2 that are mirrored here stay"],
        );
        let (fault, error) = fault(&world, &[&upstream.url()]);
        assert_eq!(fault, Fault::Refused);
        assert!(error.hint().unwrap().contains("hab-build mirror log p"));
    }
    assert_eq!(kinds(&world)[2..], ["deleted refs/heads/main", "deleted refs/tags/v1"]);
    // Another upstream that has them counts instead; that they come back is news as well.
    git(world.folder.path(), &["init", "-q", "--bare", "other.git"]);
    git(&world.path("other.git"), &["fetch", "-q", world.mirror().path().to_str().unwrap(), "refs/*:refs/*"]);
    let other = Upstream { path: world.path("other.git") };
    let synced = world.sync(&[&upstream.url(), &other.url()]).unwrap();
    assert_eq!((synced.upstream, synced.deleted), (other.url(), 2));
    upstream.git(&["update-ref", "refs/heads/main", &before]);
    upstream.git(&["update-ref", "refs/tags/v1", &before]);
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(kinds(&world)[4..], ["restored refs/heads/main", "restored refs/tags/v1"]);
}

#[test]
fn that_an_upstream_is_wiped_is_said_although_another_one_does_not_answer() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    upstream.git(&["update-ref", "-d", "refs/heads/main"]);
    upstream.git(&["update-ref", "-d", "refs/tags/v1"]);
    let away = format!("file://{}", world.path("nothing.git").display());
    let (fault, error) = fault(&world, &[&upstream.url(), &away]);
    assert!(fault == Fault::Refused && matches!(error, MirrorError::Wiped { .. }), "{error}");
}

#[test]
fn an_upstream_that_names_objects_by_sha_256_is_refused_in_a_sentence() {
    let world = World::new();
    git(world.folder.path(), &["init", "-q", "--bare", "--object-format=sha256", "-b", "main", "new.git"]);
    let new = Upstream { path: world.path("new.git") };
    new.commit("one");
    let (fault, error) = fault(&world, &[&new.url()]);
    assert_eq!(fault, Fault::Refused);
    assert!(error.to_string().contains("SHA-256"), "{error}");
    // One that can be mirrored counts instead.
    let upstream = world.upstream();
    assert_eq!(world.sync(&[&new.url(), &upstream.url()]).unwrap().moved, 2);
    world.refused(&new.url(), &["SHA-256"]);
}

#[test]
fn an_upstream_that_lost_objects_is_told_apart_from_one_that_does_not_answer() {
    for fresh in [true, false] {
        let world = World::new();
        let upstream = world.upstream();
        if !fresh {
            world.sync(&[&upstream.url()]).unwrap();
        }
        upstream.commit("two");
        let blob = upstream.git(&["rev-parse", "main:message"]);
        fs::remove_file(upstream.path.join(format!("objects/{}/{}", &blob[..2], &blob[2..]))).unwrap();
        world.refused(&upstream.url(), &["cannot give all objects that its own refs need"]);
        let (fault, _) = fault(&world, &[&upstream.url()]);
        assert_eq!(fault, Fault::Upstream);
        // The next one is asked.
        let whole = World::new();
        let whole = whole.upstream();
        assert_eq!(world.sync(&[&upstream.url(), &whole.url()]).unwrap().upstream, whole.url());
    }
}

#[test]
fn what_fsck_refuses_is_refused_and_the_hint_names_what_would_tolerate_it() {
    let world = World::new();
    let upstream = world.upstream();
    let tree = upstream.git(&["rev-parse", "main^{tree}"]);
    let text = format!(
        "tree {tree}\nauthor n <e@x.invalid> 1600000000 +051800\ncommitter n <e@x.invalid> 1600000000 +0000\n\nx\n"
    );
    let words = ["hash-object", "-w", "-t", "commit", "--literally", "--stdin"];
    let commit = git_in(&upstream.path, &words, text.as_bytes());
    upstream.git(&["update-ref", "refs/heads/odd", &commit]);
    for fresh in [true, false] {
        let (fault, error) = fault(&world, &[&upstream.url()]);
        let hint = error.hint().unwrap();
        assert_eq!(fault, Fault::Refused, "{error}");
        assert!(hint.contains("tolerate = [\"badTimezone\"]"), "{hint}");
        if fresh {
            upstream.git(&["update-ref", "-d", "refs/heads/odd"]);
            world.sync(&[&upstream.url()]).unwrap();
            upstream.git(&["update-ref", "refs/heads/odd", &commit]);
        }
    }
    // A check that keeps a checkout safe is not to be switched off lightly.
    upstream.git(&["update-ref", "-d", "refs/heads/odd"]);
    let modules = "[submodule \"x\"]\n\tpath = x\n\turl = --upload-pack=touch\n";
    upstream.commit_file(".gitmodules", modules.as_bytes(), "100644");
    let (_, error) = fault(&world, &[&upstream.url()]);
    let hint = error.hint().unwrap();
    assert!(hint.contains("protects") && hint.contains("gitmodulesUrl"), "{hint}");
}

#[test]
fn what_is_more_than_is_allowed_is_refused_and_silence_is_not() {
    let mut world = World::new();
    let upstream = world.upstream();
    world.bounds.refs = 1;
    assert_eq!(fault(&world, &[&upstream.url()]).0, Fault::Refused);
    let away = format!("file://{}", world.path("nothing.git").display());
    assert_eq!(fault(&world, &[&away]).0, Fault::Upstream);
}
