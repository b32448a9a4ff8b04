//! A ref that is a folder of another: git keeps `x` or `x/y`, and an upstream may go from one to the other.

use super::harness::{Upstream, World, git};

fn kinds(world: &World) -> Vec<String> {
    let journal = world.mirror().journal().unwrap();
    journal.entries().iter().map(|e| format!("{} {}", e.kind, e.reference)).collect()
}

fn names(world: &World) -> Vec<String> {
    world.mirror().refs().unwrap().into_keys().collect()
}

fn at(world: &World, name: &str) -> String {
    git(world.mirror().path(), &["rev-parse", name])
}

#[test]
fn a_ref_that_upstream_deleted_makes_room_for_one_below_it_and_back_with_its_history_kept() {
    for packed in [false, true] {
        let world = World::new();
        let upstream = world.upstream();
        upstream.git(&["branch", "x", "main"]);
        world.sync(&[&upstream.url()]).unwrap();
        if packed {
            git(world.mirror().path(), &["pack-refs", "--all"]);
        }
        let first = at(&world, "refs/heads/x");
        let second = upstream.commit("two");
        upstream.git(&["branch", "-D", "x"]);
        upstream.git(&["branch", "x/y", "main"]);
        upstream.git(&["branch", "x/z", "main"]);
        world.sync(&[&upstream.url()]).unwrap();
        assert_eq!(names(&world), ["refs/heads/main", "refs/heads/x/y", "refs/heads/x/z", "refs/tags/v1"]);
        assert_eq!(at(&world, &format!("refs/history/heads/x/{first}")), first);
        let said = "refs/heads/x is gone upstream and makes room for refs/heads/x/y";
        assert!(world.notes().contains(said), "{}", world.notes());
        assert_eq!(
            kinds(&world)[3..],
            [
                "fast-forward refs/heads/main",
                "displaced refs/heads/x",
                "new refs/heads/x/y",
                "new refs/heads/x/z"
            ]
        );
        assert_eq!(world.sync(&[&upstream.url()]).unwrap().changes, 0);
        // And the other way: it comes back, and goes on from where it was.
        upstream.git(&["branch", "-D", "x/y", "x/z"]);
        upstream.git(&["branch", "x", "main"]);
        world.sync(&[&upstream.url()]).unwrap();
        assert_eq!(names(&world), ["refs/heads/main", "refs/heads/x", "refs/tags/v1"]);
        assert_eq!(at(&world, "refs/heads/x"), second);
        assert_eq!(at(&world, &format!("refs/history/heads/x/y/{second}")), second);
        assert_eq!(
            kinds(&world)[7..],
            [
                "displaced refs/heads/x/y",
                "displaced refs/heads/x/z",
                "new refs/heads/x",
                "fast-forward refs/heads/x"
            ]
        );
        assert_eq!(world.sync(&[&upstream.url()]).unwrap().changes, 0);
        world.whole();
    }
}

#[test]
fn a_tag_that_made_room_still_has_its_value_and_cannot_come_back_as_another() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    let first = at(&world, "refs/tags/v1");
    upstream.git(&["tag", "-d", "v1"]);
    let second = upstream.commit("two");
    upstream.git(&["tag", "v1/rc", "main"]);
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(names(&world), ["refs/heads/main", "refs/tags/v1/rc"]);
    let values = |name: &str| {
        let tag = world.mirror().tag(name).unwrap();
        tag.into_iter().map(|t| t.id).collect::<Vec<_>>()
    };
    assert_eq!((values("v1"), values("v1/rc")), (vec![first.clone()], vec![second.clone()]));
    // Now it is said to be another one.
    upstream.git(&["tag", "-d", "v1/rc"]);
    upstream.git(&["tag", "v1", "main"]);
    let synced = world.sync(&[&upstream.url()]).unwrap();
    assert_eq!((at(&world, "refs/tags/v1"), synced.frozen), (first.clone(), vec!["refs/tags/v1".to_owned()]));
    assert_eq!(values("v1"), [first, second]);
    world.whole();
}

#[test]
fn what_waits_for_a_person_makes_no_room_until_the_person_has_decided() {
    let world = World::new();
    let upstream = world.upstream();
    world.sync(&[&upstream.url()]).unwrap();
    upstream.commit("two");
    upstream.git(&["tag", "-f", "v1", "main"]);
    world.sync(&[&upstream.url()]).unwrap();
    upstream.git(&["tag", "-d", "v1"]);
    upstream.git(&["tag", "v1/rc", "main"]);
    let synced = world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(synced.left_out.len(), 1);
    assert!(
        synced.left_out[0].why.contains("hab-build mirror accept p refs/tags/v1"),
        "{:?}",
        synced.left_out
    );
    assert!(names(&world).contains(&"refs/tags/v1".to_owned()));
    world.mirror().accept("v1", None, &world.told).unwrap();
    assert!(world.sync(&[&upstream.url()]).unwrap().left_out.is_empty());
    assert_eq!(names(&world), ["refs/heads/main", "refs/tags/v1/rc"]);
    world.whole();
}

#[test]
fn a_ref_that_another_upstream_still_has_makes_no_room() {
    let world = World::new();
    let upstream = world.upstream();
    git(world.folder.path(), &["clone", "-q", "--mirror", &upstream.url(), "other.git"]);
    let other = Upstream { path: world.path("other.git") };
    world.sync(&[&upstream.url(), &other.url()]).unwrap();
    upstream.git(&["tag", "-d", "v1"]);
    upstream.git(&["tag", "v1/rc", "main"]);
    let synced = world.sync(&[&upstream.url(), &other.url()]).unwrap();
    assert!(synced.left_out[0].why.contains(&format!("refs/tags/v1, which {} has", other.url())));
    assert!(names(&world).contains(&"refs/tags/v1".to_owned()));
}

#[test]
fn a_run_that_was_killed_while_a_ref_made_room_is_finished_by_the_next() {
    let world = World::new();
    let upstream = world.upstream();
    upstream.git(&["branch", "x", "main"]);
    world.sync(&[&upstream.url()]).unwrap();
    let first = at(&world, "refs/heads/x");
    upstream.git(&["branch", "-D", "x"]);
    upstream.git(&["branch", "x/y", "main"]);
    world.sync(&[&upstream.url()]).unwrap();
    let path = world.mirror().path().to_owned();
    // Neither of the two transactions was done.
    git(&path, &["update-ref", "-d", "refs/heads/x/y"]);
    git(&path, &["update-ref", "-d", &format!("refs/history/heads/x/{first}")]);
    git(&path, &["update-ref", "refs/heads/x", &first]);
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(names(&world), ["refs/heads/main", "refs/heads/x/y", "refs/tags/v1"]);
    assert_eq!(at(&world, &format!("refs/history/heads/x/{first}")), first);
    // The first of them was.
    git(&path, &["update-ref", "-d", "refs/heads/x/y"]);
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(names(&world), ["refs/heads/main", "refs/heads/x/y", "refs/tags/v1"]);
    world.whole();
}

#[test]
fn a_branch_named_after_a_value_that_is_kept_does_not_keep_syncs_from_going_on() {
    let world = World::new();
    let upstream = world.upstream();
    upstream.git(&["branch", "x", "main"]);
    world.sync(&[&upstream.url()]).unwrap();
    let first = at(&world, "refs/heads/x");
    let odd = format!("x/{first}");
    upstream.git(&["branch", "-D", "x"]);
    upstream.commit("two");
    upstream.git(&["branch", &odd, "main"]);
    world.sync(&[&upstream.url()]).unwrap();
    // Rewritten, so that its other value has to be kept beside: where the value of `x` is a file.
    upstream.git(&["branch", "-f", &odd, "v1"]);
    let other = upstream.git(&["commit-tree", "-m", "other", "main^{tree}"]);
    upstream.git(&["update-ref", &format!("refs/heads/{odd}"), &other]);
    let synced = world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(synced.frozen, [format!("refs/heads/{odd}")]);
    assert_eq!(at(&world, &format!("refs/history/_/{other}")), other);
    world.mirror().accept(&odd, None, &world.told).unwrap();
    assert_eq!(at(&world, &format!("refs/heads/{odd}")), other);
    assert_eq!(world.sync(&[&upstream.url()]).unwrap().changes, 0);
    world.whole();
}
