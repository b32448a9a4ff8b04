//! Many refs at once, which go another way than few.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use hab_mirror::git::{Allow, RefPattern, SyncRequest};

use super::harness::{Say, Server, Upstream, World, advertise, git, git_in};

/// More than are moved one by one.
const MANY: usize = 150;

/// Points this many tags at `commit`.
fn tags(upstream: &Upstream, commit: &str, moved: bool) {
    let verb = if moved { "update" } else { "create" };
    let lines: Vec<_> = (0..MANY).map(|n| format!("{verb} refs/tags/many/{n} {commit}")).collect();
    git_in(&upstream.path, &["update-ref", "--stdin"], (lines.join("\n") + "\n").as_bytes());
}

fn refs_of(repository: &Path) -> BTreeMap<String, String> {
    let text = git(repository, &["for-each-ref", "--format=%(refname) %(objectname)"]);
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(n, id)| (n.to_owned(), id.to_owned()))
        .collect()
}

#[test]
fn many_new_tags_and_a_branch_that_went_on_are_what_upstream_has() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    // One that has a file of its own, which counts more than the file of all.
    let first = upstream.git(&["rev-parse", "main"]);
    git(world.mirror().path(), &["update-ref", "--create-reflog", "refs/heads/main", &first]);
    assert!(world.path("git/p.git/refs/heads/main").exists() || world.path("git/p.git/packed-refs").exists());
    let second = upstream.commit("two");
    tags(&upstream, &second, false);
    let synced = world.sync(&[&upstream.url()]).unwrap();
    assert_eq!((synced.moved, synced.changes), (MANY + 1, MANY + 1));
    assert_eq!(refs_of(world.mirror().path()), refs_of(&upstream.path));
    assert_eq!(world.mirror().refs().unwrap(), refs_of(&upstream.path));
    assert!(!world.path("git/p.git/packed-refs.lock").exists());
    world.whole();
    // And few after many.
    upstream.git(&["tag", "v2", "main"]);
    upstream.commit("three");
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(refs_of(world.mirror().path()), refs_of(&upstream.path));
}

#[test]
fn a_commit_that_is_here_without_what_it_needs_is_fetched_whole() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    let second = upstream.commit("two");
    // As what was carried here by somebody who means harm could leave it.
    let alone = git(&upstream.path, &["cat-file", "commit", &second]) + "\n";
    let words = ["hash-object", "-w", "-t", "commit", "--stdin", "--literally"];
    assert_eq!(git_in(world.mirror().path(), &words, alone.as_bytes()), second);
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(refs_of(world.mirror().path()), refs_of(&upstream.path));
    git(world.mirror().path(), &["rev-list", "--objects", "--all"]);
    world.whole();
}

#[test]
fn many_tags_that_moved_stay_and_their_other_values_are_kept_beside() {
    let world = World::new();
    let upstream = world.upstream();
    tags(&upstream, &upstream.git(&["rev-parse", "main"]), false);
    world.sync(&[&upstream.url()]).unwrap();
    let before = world.mirror().refs().unwrap();
    let moved = upstream.commit("two");
    tags(&upstream, &moved, true);
    let synced = world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(synced.frozen.len(), MANY);
    let after = world.mirror().refs().unwrap();
    assert_eq!(before.iter().find(|(name, id)| name.starts_with("refs/tags/") && after[*name] != **id), None);
    let all = refs_of(world.mirror().path());
    assert_eq!(all[&format!("refs/history/tags/many/7/{moved}")], moved);
    assert_eq!(all.keys().filter(|name| name.starts_with("refs/history/")).count(), MANY);
    // An upstream has no say in how much is told.
    let notes = world.notes();
    assert_eq!(notes.matches("is tag-moved at").count(), 20);
    assert!(notes.contains(&format!("and {} more like these", MANY - 20)), "{notes}");
    world.mirror().accept("many/7", None, &world.told).unwrap();
    assert_eq!(world.mirror().refs().unwrap()["refs/tags/many/7"], moved);
    world.whole();
}

#[test]
fn many_refs_that_a_killed_run_wrote_down_and_did_not_move_are_moved_by_the_next() {
    let world = World::new();
    let upstream = world.upstream();
    tags(&upstream, &upstream.git(&["rev-parse", "main"]), false);
    world.sync(&[&upstream.url()]).unwrap();
    let path = world.mirror().path().to_owned();
    let before = refs_of(&path);
    // As if it had been killed between its journal and its refs, with its lock in its hand.
    let packed = fs::read_to_string(path.join("packed-refs")).unwrap();
    let kept: Vec<_> = packed.lines().filter(|line| !line.contains("refs/tags/many/")).collect();
    fs::write(path.join("packed-refs"), kept.join("\n") + "\n").unwrap();
    fs::write(path.join("packed-refs.lock"), "half").unwrap();
    let synced = world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(synced.changes, 0);
    assert_eq!(refs_of(&path), before);
    world.whole();
}

#[test]
fn what_is_not_wanted_is_not_fetched_with_the_much_that_is() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    let wanted = upstream.commit("wanted");
    tags(&upstream, &wanted, false);
    let blob = git_in(&upstream.path, &["hash-object", "-w", "--stdin"], b"not wanted");
    upstream.git(&["update-ref", "refs/pull/1/head", &blob]);
    upstream.git(&["tag", "other", &blob]);
    let refs = ["refs/heads/*", "refs/tags/many/*"].map(|text| text.parse::<RefPattern>().unwrap());
    let wish = SyncRequest {
        urls: &[upstream.url()],
        refs: &refs,
        allow: Allow { file: true, http: true },
        tolerate: &[],
        bounds: world.bounds,
        password_file: None,
    };
    world.mirror().sync(&wish, &world.told).unwrap();
    assert!(world.mirror().has(&wanted).unwrap() && !world.mirror().has(&blob).unwrap());
    // Nor a tag that only a second upstream has.
    git(world.folder.path(), &["clone", "-q", "--mirror", &upstream.url(), "other.git"]);
    let other = Upstream { path: world.path("other.git") };
    let only = other.commit("only there");
    other.git(&["tag", "only", "main"]);
    tags(&other, &only, true);
    world.sync(&[&upstream.url(), &other.url()]).unwrap();
    assert!(!world.mirror().refs().unwrap().contains_key("refs/tags/only"));
    assert!(world.notes().contains("is disagreed at"), "{}", world.notes());
    world.whole();
}

/// A server that says `lists` one after the other, the last one again and again, and sends `pack`.
fn moving(lists: Vec<Vec<u8>>, pack: Vec<u8>) -> Server {
    let asked = AtomicUsize::new(0);
    Server::start(move |path| {
        Say::Body(if path.contains("info/refs") {
            let at = asked.fetch_add(1, Ordering::Relaxed).min(lists.len() - 1);
            lists[at].clone()
        } else {
            [b"0008NAK\n".to_vec(), pack.clone()].concat()
        })
    })
}

#[test]
fn an_upstream_that_went_on_while_it_was_asked_is_asked_once_more() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    let gone = upstream.commit("gone");
    upstream.git(&["update-ref", "refs/heads/main", "main~1"]);
    let now = upstream.commit("now");
    let whole = [now.clone(), format!("{now}^{{tree}}"), format!("{now}:message")];
    let whole = whole.map(|rev| upstream.git(&["rev-parse", &rev]));
    let pack = upstream.pack(&whole.each_ref().map(String::as_str));
    let list = |commit: &str| advertise(&[(commit, "refs/heads/main")]);
    let server = moving(vec![list(&gone), list(&now)], pack.clone());
    world.sync(&[&server.url()]).unwrap();
    assert_eq!(world.mirror().refs().unwrap()["refs/heads/main"], now);
    // One that says something else each time is left alone after the second.
    let lists: Vec<_> = (0..20).map(|n| list(&format!("{n:040x}"))).collect();
    let server = moving(lists, pack);
    world.refused(&server.url(), &["git fetch failed"]);
    assert!(server.requests.load(Ordering::Relaxed) < 8);
}
