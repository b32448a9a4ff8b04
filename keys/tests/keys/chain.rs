//! Histories that the test makes: what a chain check accepts, and every rule broken once.

use crate::history::{Hash, History, How, Seen, WELL, files};
use crate::world::{cert, court_of, detached};
use hab_keys::chain::VerifiedChain;
use hab_keys::{Policy, Refusal};

fn said(result: Result<VerifiedChain, Refusal>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_signed_history_of_merges_is_accepted_and_can_be_resumed() {
    let history = History::new();
    let tip = history.clean();
    let seen = Seen::default();
    let verified = history.verify_by(&history.court(""), tip, None, &seen).unwrap();
    let summary = verified.summary();
    assert_eq!((summary.commits, summary.merges, summary.trees), (2, 2, 2));
    assert_eq!(summary.by_key["maintainer"], 2);
    assert_eq!(*seen.told.lock().unwrap(), [(2, 2, tip.to_string())]);
    // Nothing before what was verified is judged again.
    let base = files(&[("one", "1\n"), ("two", "2\n")]);
    let three = files(&[("one", "1\n"), ("two", "2\n"), ("three", "3\n")]);
    let newest = history.merge(tip, (tip, &base), &three, &three, WELL);
    let resumed = history.verify_by(&history.court(""), newest, Some(&tip.to_string()), &seen).unwrap();
    assert_eq!(resumed.summary().commits, 1);
    // What was verified elsewhere is no end for another history.
    let elsewhere = history.commit(&base, &[], WELL);
    let whole = history.verify_by(&history.court(""), newest, Some(&elsewhere.to_string()), &seen).unwrap();
    assert_eq!(whole.summary().commits, 3);
}

#[test]
fn nothing_is_written_into_the_repository() {
    let history = History::new();
    let tip = history.clean();
    let count = || {
        let mut ids = 0;
        history
            .git
            .odb()
            .unwrap()
            .foreach(|_| {
                ids += 1;
                true
            })
            .unwrap();
        ids
    };
    let before = count();
    history.verify(tip).unwrap();
    assert_eq!(count(), before);
}

#[test]
fn a_history_that_does_not_contain_the_root_is_refused() {
    let history = History::new();
    let orphan = history.commit(&files(&[]), &[], WELL);
    let tip = history.commit(&files(&[("x", "")]), &[orphan], WELL);
    assert!(said(history.verify(tip)).contains("does not contain the trusted root"));
    // The root as somebody's second parent is not the line that maintainers made.
    let tip = history.commit(&files(&[("x", "")]), &[orphan, history.root], WELL);
    assert!(said(history.verify(tip)).contains("does not contain the trusted root"));
}

#[test]
fn one_unsigned_commit_in_the_middle_is_refused_unless_it_is_allowed() {
    let history = History::new();
    let bad = history.commit(&files(&[("x", "")]), &[history.root], How { signed: false, hash: Hash::Right });
    let tip = history.commit(&files(&[("x", ""), ("y", "")]), &[bad], WELL);
    let said = said(history.verify(tip));
    assert!(said.contains(&format!("commit {bad} is refused: it is not signed")), "{said}");
    let allowed = history.verify_by(&history.allow(bad, "signature"), tip, None, &Seen::default()).unwrap();
    assert_eq!(allowed.summary().allowed.len(), 1);
    // An allowance is for one commit and one rule.
    for court in [history.allow(tip, "signature"), history.allow(bad, "merge")] {
        assert!(history.verify_by(&court, tip, None, &Seen::default()).is_err());
    }
}

#[test]
fn a_commit_by_a_key_that_may_not_sign_is_refused() {
    let mut history = History::new();
    let trusted = std::mem::replace(&mut history.key, cert("other"));
    let bad = history.commit(&files(&[("x", "")]), &[history.root], WELL);
    history.key = trusted;
    let said = said(history.verify(bad));
    assert!(said.contains("no signature by a key that may sign it"), "{said}");
}

#[test]
fn a_tree_whose_sha512_is_wrong_or_missing_is_refused() {
    let history = History::new();
    for (hash, words) in
        [(Hash::Wrong, "not the one that its message names"), (Hash::None, "names no Tree-SHA512")]
    {
        let tip = history.commit(&files(&[("x", "")]), &[history.root], How { signed: true, hash });
        let said = said(history.verify(tip));
        assert!(said.contains(words), "{said}");
        assert!(history.verify_by(&history.allow(tip, "tree-sha512"), tip, None, &Seen::default()).is_ok());
    }
}

#[test]
fn a_merge_into_which_something_was_slipped_is_refused() {
    let history = History::new();
    let base = files(&[]);
    let one = files(&[("one", "1\n")]);
    let evil = files(&[("one", "1\n"), ("evil", "!\n")]);
    let tip = history.merge(history.root, (history.root, &base), &one, &evil, WELL);
    let said = said(history.verify(tip));
    assert!(said.contains("merging its parents gives tree"), "{said}");
    assert!(history.verify_by(&history.allow(tip, "merge"), tip, None, &Seen::default()).is_ok());
}

#[test]
fn a_merge_that_needs_a_rename_to_be_seen_is_made_again_by_git() {
    let history = History::new();
    let base = files(&[]);
    // One side moves src.c, the other changes a line of it.
    let mut moved = base.clone();
    let text = moved.remove("src.c").unwrap();
    moved.insert("lib/src.c", text);
    let ours = history.commit(&moved, &[history.root], WELL);
    let mut changed = base.clone();
    changed.insert("src.c", "1\n2\n3\nfour\n5\n6\n7\n8\n");
    let mut merged = moved.clone();
    merged.insert("lib/src.c", "1\n2\n3\nfour\n5\n6\n7\n8\n");
    let tip = history.merge(ours, (history.root, &base), &changed, &merged, WELL);
    assert_eq!(history.verify(tip).unwrap().summary().merges, 1);
}

#[test]
fn a_merge_of_a_conflict_is_refused() {
    let history = History::new();
    let base = files(&[]);
    let mut a = base.clone();
    a.insert("src.c", "a\n");
    let ours = history.commit(&a, &[history.root], WELL);
    let mut b = base.clone();
    b.insert("src.c", "b\n");
    let tip = history.merge(ours, (history.root, &base), &b, &a, WELL);
    assert!(said(history.verify(tip)).contains("do not merge without conflicts"));
}

#[test]
fn a_merge_of_more_than_two_histories_is_refused() {
    let history = History::new();
    let [a, b] = ["a", "b"].map(|name| {
        history.commit(&files(&[(name, "")]), &[history.root], How { signed: false, hash: Hash::None })
    });
    let tip = history.commit(&files(&[("a", ""), ("b", "")]), &[history.root, a, b], WELL);
    assert!(said(history.verify(tip)).contains("more than two histories"));
}

#[test]
fn a_check_that_is_stopped_says_so() {
    let history = History::new();
    let tip = history.clean();
    let stopped = history.verify_by(&history.court(""), tip, None, &Seen { stop: true, ..Seen::default() });
    assert!(matches!(stopped, Err(Refusal::Cancelled { .. })));
}

#[test]
fn a_tag_needs_its_history_where_the_policy_says_so() {
    use hab_keys::tag::{Claimed, VerifiedTag};
    let history = History::new();
    let tip = history.clean();
    let text = history.court("").policy.text().replace(
        "name = \"test\"\n",
        "name = \"test\"\naccept = { all = [\"history\", \"release\"] }\n[require.release]\nkind = \"tag\"\nthreshold = 1\n",
    );
    let court = court_of(Policy::parse("test", &text).unwrap(), &[&history.key]);
    let mut object =
        format!("object {tip}\ntype commit\ntag v1\ntagger n <e@x.invalid> 1700000001 +0000\n\nv1\n")
            .into_bytes();
    object.extend_from_slice(&detached(&history.key, &object.clone()));
    let odb = history.git.odb().unwrap();
    let id = odb.write(git2::ObjectType::Tag, &object).unwrap().to_string();
    let (tip_id, commit) = (tip.to_string(), odb.read(tip).unwrap().data().to_vec());
    let claimed =
        Claimed { project: "p", name: "v1", id: &id, object: Some(&object), commit: (&tip_id, &commit) };
    let tag = VerifiedTag::verify(claimed, &court.judge()).unwrap();
    let refused = tag.check_accepted().unwrap_err().to_string();
    assert!(refused.contains("accepts history and release; met: release"), "{refused}");
    let chain = history.verify_by(&court, tip, None, &Seen::default()).unwrap();
    assert!(tag.clone().with_chain(&chain).check_accepted().is_ok());
    // Another commit's history vouches for nothing.
    let first = history.git.find_commit(tip).unwrap().parent_id(0).unwrap();
    let other = history.verify_by(&court, first, None, &Seen::default()).unwrap();
    assert!(tag.with_chain(&other).check_accepted().is_err());
}

#[test]
fn a_tree_that_is_not_sorted_is_refused_however_it_is_signed() {
    let history = History::new();
    let base = files(&[]);
    let one = files(&[("one", "1\n")]);
    // The right merge's tree with one entry more, at the front: who looks it up by name does not find it.
    let good = history.merge(history.root, (history.root, &base), &one, &one, WELL);
    let good = history.git.find_commit(good).unwrap();
    let odb = history.git.odb().unwrap();
    let evil = history.git.blob(b"!").unwrap();
    let entry = [b"100644 zzz-evil.sh\0".as_slice(), evil.as_bytes()].concat();
    let bytes = [entry.as_slice(), odb.read(good.tree_id()).unwrap().data()].concat();
    let tree = odb.write(git2::ObjectType::Tree, &bytes).unwrap();
    let raw = String::from_utf8(odb.read(good.id()).unwrap().data().to_vec()).unwrap();
    let start = raw.find("gpgsig").unwrap();
    let end = raw.find("\n\nMerge").unwrap() + 1;
    let unsigned =
        format!("{}{}", &raw[..start], &raw[end..]).replace(&good.tree_id().to_string(), &tree.to_string());
    let signature = String::from_utf8(detached(&history.key, unsigned.as_bytes())).unwrap();
    let tip = history.git.commit_signed(&unsigned, signature.trim_end(), None).unwrap();
    let said = said(history.verify(tip));
    assert!(said.contains("is not sorted"), "{said}");
    // Without the hash of the tree, the merge says it.
    let text = history.court("").policy.text().replace("tree-sha512 = true", "tree-sha512 = false");
    let court = court_of(Policy::parse("test", &text).unwrap(), &[&history.key]);
    let refused = history.verify_by(&court, tip, None, &Seen::default()).unwrap_err().to_string();
    assert!(refused.contains("merging its parents gives tree"), "{refused}");
}

#[test]
fn a_repository_with_a_commit_graph_is_judged_without_it() {
    let history = History::new();
    let tip = history.clean();
    history.git.reference("refs/heads/main", tip, true, "test").unwrap();
    let written = std::process::Command::new("git")
        .arg("--git-dir")
        .arg(history.git.path())
        .args(["commit-graph", "write", "--reachable"])
        .status()
        .unwrap();
    assert!(written.success());
    assert!(history.git.path().join("objects/info/commit-graph").exists());
    assert_eq!(history.verify(tip).unwrap().summary().merges, 2);
}

#[test]
fn folders_that_lie_too_deep_are_refused_before_they_exhaust_the_stack() {
    let history = History::new();
    let odb = history.git.odb().unwrap();
    let mut entry = ("100644 file".to_owned(), history.git.blob(b"").unwrap());
    for _ in 0..2_000 {
        let bytes = [entry.0.as_bytes(), b"\0", entry.1.as_bytes()].concat();
        entry = ("40000 d".to_owned(), odb.write(git2::ObjectType::Tree, &bytes).unwrap());
    }
    let who = "n <e@x.invalid> 1700000000 +0000";
    let text = format!("tree {}\nparent {}\nauthor {who}\ncommitter {who}\n\nDeep\n", entry.1, history.root);
    let signature = String::from_utf8(detached(&history.key, text.as_bytes())).unwrap();
    let tip = history.git.commit_signed(&text, signature.trim_end(), None).unwrap();
    assert!(said(history.verify(tip)).contains("lie more than 256 deep"));
}

#[test]
fn a_commit_that_is_too_large_is_not_unpacked() {
    let history = History::new();
    let who = "n <e@x.invalid> 1700000000 +0000";
    let tree = history.git.find_commit(history.root).unwrap().tree_id();
    let text = format!("tree {tree}\nparent {}\nauthor {who}\ncommitter {who}\n\n", history.root);
    let huge = [text.as_bytes(), &vec![b'x'; 5 << 20]].concat();
    let tip = history.git.odb().unwrap().write(git2::ObjectType::Commit, &huge).unwrap();
    let said = said(history.verify(tip));
    assert!(said.contains("more than the limit of"), "{said}");
}
