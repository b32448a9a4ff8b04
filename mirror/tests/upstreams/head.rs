//! HEAD: which branch a clone checks out.

use super::harness::{Upstream, World, git};

fn head(world: &World) -> String {
    git(world.mirror().path(), &["symbolic-ref", "HEAD"])
}

/// What the journal says of HEAD.
fn moves(world: &World) -> Vec<String> {
    let journal = world.mirror().journal().unwrap();
    let said = |e: &hab_mirror::git::JournalEntry| {
        format!("{} {} {} {}", e.upstream, e.kind, e.old.as_deref().unwrap(), e.new.as_deref().unwrap())
    };
    journal.about("HEAD").map(said).collect()
}

/// An upstream with the branches main and next.
fn two_branches(world: &World) -> Upstream {
    let upstream = world.upstream();
    upstream.git(&["branch", "next", "main"]);
    upstream
}

#[test]
fn head_follows_upstream_s_default_branch_and_the_journal_says_when() {
    let world = World::new();
    let upstream = two_branches(&world);
    let first = world.sync(&[&upstream.url()]).unwrap();
    assert_eq!((head(&world).as_str(), first.head), ("refs/heads/main", None));
    upstream.git(&["symbolic-ref", "HEAD", "refs/heads/next"]);
    let synced = world.sync(&[&upstream.url()]).unwrap();
    assert_eq!((head(&world).as_str(), synced.head.as_deref()), ("refs/heads/next", Some("refs/heads/next")));
    assert_eq!(moves(&world), [format!("{} head refs/heads/main refs/heads/next", upstream.url())]);
    assert_eq!(world.sync(&[&upstream.url()]).unwrap().head, None);
    // A branch that is new, and whose predecessor is deleted.
    upstream.git(&["branch", "-m", "main", "trunk"]);
    upstream.git(&["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(head(&world), "refs/heads/trunk");
    assert_eq!(moves(&world).len(), 2);
    git(world.folder.path(), &["clone", "-q", world.mirror().path().to_str().unwrap(), "clone"]);
    assert_eq!(git(&world.path("clone"), &["branch", "--show-current"]), "trunk");
}

#[test]
fn a_head_that_is_detached_or_names_a_branch_that_is_not_there_changes_nothing() {
    let world = World::new();
    let upstream = two_branches(&world);
    upstream.git(&["symbolic-ref", "HEAD", "refs/heads/next"]);
    world.sync(&[&upstream.url()]).unwrap();
    let commit = upstream.commit("two");
    upstream.git(&["update-ref", "--no-deref", "HEAD", &commit]);
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(head(&world), "refs/heads/next");
    upstream.git(&["symbolic-ref", "HEAD", "refs/heads/gone"]);
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!((head(&world).as_str(), moves(&world).len()), ("refs/heads/next", 0));
}

#[test]
fn a_detached_head_is_at_first_the_branch_that_is_where_it_is() {
    let world = World::new();
    let upstream = two_branches(&world);
    upstream.git(&["branch", "at", "main"]);
    let commit = upstream.commit("two");
    upstream.git(&["branch", "-f", "at", &commit]);
    upstream.git(&["branch", "-f", "main", "next"]);
    upstream.git(&["update-ref", "--no-deref", "HEAD", &commit]);
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!(head(&world), "refs/heads/at");
}

#[test]
fn an_upstream_that_is_not_the_preferred_one_has_no_say_in_a_head_that_names_a_branch() {
    let world = World::new();
    let upstream = two_branches(&world);
    git(world.folder.path(), &["clone", "-q", "--mirror", &upstream.url(), "other.git"]);
    let other = Upstream { path: world.path("other.git") };
    other.git(&["symbolic-ref", "HEAD", "refs/heads/next"]);
    world.sync(&[&upstream.url(), &other.url()]).unwrap();
    let away = format!("file://{}", world.path("nothing.git").display());
    world.sync(&[&away, &other.url()]).unwrap();
    assert_eq!((head(&world).as_str(), moves(&world).len()), ("refs/heads/main", 0));
    // Where it names none, anybody's is better.
    let fresh = World::new();
    fresh.sync(&[&away, &other.url()]).unwrap();
    assert_eq!(head(&fresh), "refs/heads/next");
}

#[test]
fn a_clone_that_would_check_nothing_out_is_told() {
    let world = World::new();
    let upstream = two_branches(&world);
    upstream.git(&["symbolic-ref", "HEAD", "refs/heads/gone"]);
    world.sync(&[&upstream.url()]).unwrap();
    assert!(
        world.notes().contains("nothing checked out: upstream's HEAD names no branch"),
        "{}",
        world.notes()
    );
    let note = || hab_mirror::git::note(world.mirror().path());
    assert!(note().is_some_and(|note| !note.empty && note.text.contains("HEAD names no branch")));
    upstream.git(&["symbolic-ref", "HEAD", "refs/heads/next"]);
    world.sync(&[&upstream.url()]).unwrap();
    assert_eq!((note(), head(&world).as_str()), (None, "refs/heads/next"));
}

#[test]
fn head_and_its_history_are_carried_to_another_place() {
    let world = World::new();
    let upstream = two_branches(&world);
    world.sync(&[&upstream.url()]).unwrap();
    upstream.git(&["symbolic-ref", "HEAD", "refs/heads/next"]);
    world.sync(&[&upstream.url()]).unwrap();
    let carried = world.mirror().carry_out(world.folder.path(), None, &world.told).unwrap();
    let there = World::new();
    let wish = hab_mirror::git::SyncRequest {
        urls: &[],
        refs: &hab_mirror::git::RefPattern::usual(),
        allow: hab_mirror::git::Allow::default(),
        tolerate: &[],
        bounds: there.bounds,
        password_file: None,
    };
    let (bundle, journal) = (world.path("bundle"), world.path("journal"));
    let refs = &carried.refs;
    let head_of = |head: &str| Some(head.to_owned());
    let odd = head_of("refs/heads/../x");
    let taken = there.mirror().carry_in(Some(&bundle), &journal, refs, odd.as_ref(), &wish, &there.told);
    assert!(taken.unwrap_err().to_string().contains("is not a valid ref name"));
    there
        .mirror()
        .carry_in(Some(&bundle), &journal, refs, carried.head.as_ref(), &wish, &there.told)
        .unwrap();
    assert_eq!((head(&there).as_str(), moves(&there)), ("refs/heads/next", moves(&world)));
}
