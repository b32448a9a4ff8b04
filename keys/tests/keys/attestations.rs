//! Builders that agree, omit, dissent and pretend.

use crate::world::{Court, cert, court_of, detached};
use hab_keys::attestations::Outcome;
use hab_keys::{Attestations, ListKind, Policy, Submitted};
use sequoia_openpgp::Cert;

const GOOD: &str = "aa";
const OTHER: &str = "bb";

fn court(threshold: usize, builders: &[(&str, &Cert)], known: &[&Cert]) -> Court {
    let mut text =
        format!("name = \"test\"\n[require.builders]\nkind = \"signed-hashes\"\nthreshold = {threshold}\n");
    for (name, cert) in builders {
        text.push_str(&format!(
            "[[key]]\nfingerprint = \"{}\"\nname = \"{name}\"\nreason = \"r\"\nbuilders = [\"{name}\"]\n",
            cert.fingerprint()
        ));
    }
    court_of(Policy::parse("test", &text).unwrap(), known)
}

/// What `builder` says of files: name and the byte that its hash repeats.
fn says(builder: &str, signed_by: &Cert, files: &[(&str, &str)]) -> Submitted {
    let lines: Vec<_> = files.iter().map(|(name, byte)| format!("{}  {name}\n", byte.repeat(32))).collect();
    let sums = lines.concat();
    let signature = detached(signed_by, sums.as_bytes());
    Submitted { builder: builder.to_owned(), kind: ListKind::All, sums: sums.into_bytes(), signature }
}

fn judged(court: &Court, submitted: &[Submitted]) -> Attestations {
    Attestations::judge("1.0", submitted, &court.judge()).unwrap()
}

fn outcome(attestations: &Attestations, name: &str) -> Outcome {
    attestations.lists[1].files.iter().find(|f| f.name == name).unwrap().outcome
}

struct Three {
    a: Cert,
    b: Cert,
    c: Cert,
}

impl Three {
    fn new() -> Self {
        Self { a: cert("a"), b: cert("b"), c: cert("c") }
    }

    fn court(&self, threshold: usize) -> Court {
        court(threshold, &[("a", &self.a), ("b", &self.b), ("c", &self.c)], &[&self.a, &self.b, &self.c])
    }
}

#[test]
fn enough_builders_agree_file_by_file_and_omission_is_not_dissent() {
    let t = Three::new();
    let court = t.court(2);
    let all = judged(
        &court,
        &[
            says("a", &t.a, &[("x-1.0", GOOD), ("y-1.0", GOOD)]),
            says("b", &t.b, &[("x-1.0", GOOD)]),
            says("c", &t.c, &[("x-1.0", GOOD)]),
        ],
    );
    assert_eq!(outcome(&all, "x-1.0"), Outcome::Agreed);
    assert_eq!(outcome(&all, "y-1.0"), Outcome::TooFew);
    assert!(all.check_accepted().is_ok());
    let few = judged(&court, &[says("a", &t.a, &[("x-1.0", GOOD)])]);
    assert!(few.check_accepted().unwrap_err().to_string().contains("no file on which 2 builders"));
}

#[test]
fn a_builder_that_counts_and_dissents_is_never_outvoted() {
    let t = Three::new();
    let court = t.court(1);
    let all = judged(
        &court,
        &[
            says("a", &t.a, &[("x-1.0", GOOD), ("y-1.0", GOOD)]),
            says("b", &t.b, &[("x-1.0", GOOD), ("y-1.0", GOOD)]),
            says("c", &t.c, &[("x-1.0", OTHER), ("y-1.0", GOOD)]),
        ],
    );
    assert_eq!((outcome(&all, "x-1.0"), outcome(&all, "y-1.0")), (Outcome::Disputed, Outcome::Agreed));
    let said = all.check_accepted().unwrap_err().to_string();
    assert!(
        said.contains("do not agree on x-1.0")
            && said.contains("a, b say aaaa")
            && said.contains("c say bbbb"),
        "{said}"
    );
}

#[test]
fn a_stranger_neither_counts_nor_dissents() {
    let t = Three::new();
    let (stranger, court) = (cert("stranger"), t.court(2));
    let all = judged(
        &court,
        &[
            says("a", &t.a, &[("x-1.0", GOOD)]),
            says("b", &t.b, &[("x-1.0", GOOD)]),
            says("stranger", &stranger, &[("x-1.0", OTHER), ("z-1.0", OTHER)]),
        ],
    );
    assert_eq!((outcome(&all, "x-1.0"), outcome(&all, "z-1.0")), (Outcome::Agreed, Outcome::TooFew));
    assert!(!all.lists[1].attesters[2].counts);
}

#[test]
fn a_builder_is_bound_to_the_key_of_its_folder() {
    let t = Three::new();
    let court = t.court(2);
    // One key in three folders is one builder, and only in its own.
    let all = judged(&court, &["a", "b", "c"].map(|folder| says(folder, &t.a, &[("x-1.0", GOOD)])));
    assert_eq!(outcome(&all, "x-1.0"), Outcome::TooFew);
    assert!(all.lists[1].attesters[1].why.contains("not the key of this folder"));
}

#[test]
fn one_key_with_two_folders_is_counted_once() {
    let (a, b) = (cert("a"), cert("b"));
    let text =
        court(2, &[("a", &a), ("b", &b)], &[&a, &b]).policy.text().replace("[\"a\"]", "[\"a\", \"old-a\"]");
    let court = court_of(Policy::parse("test", &text).unwrap(), &[&a, &b]);
    let twice = [says("a", &a, &[("x-1.0", GOOD)]), says("old-a", &a, &[("x-1.0", GOOD)])];
    assert_eq!(outcome(&judged(&court, &twice), "x-1.0"), Outcome::TooFew);
}

#[test]
fn what_is_tampered_with_unsigned_or_no_list_does_not_count() {
    let t = Three::new();
    let court = t.court(2);
    let mut tampered = says("b", &t.b, &[("x-1.0", OTHER)]);
    tampered.sums = says("b", &t.b, &[("x-1.0", GOOD)]).sums;
    let mut unsigned = says("c", &t.c, &[("x-1.0", GOOD)]);
    unsigned.signature.clear();
    let nonsense =
        Submitted { signature: detached(&t.c, b"no list"), sums: b"no list".to_vec(), ..unsigned.clone() };
    let all = judged(&court, &[says("a", &t.a, &[("x-1.0", GOOD)]), tampered, unsigned, nonsense]);
    assert_eq!(outcome(&all, "x-1.0"), Outcome::TooFew);
    let why: Vec<_> = all.lists[1].attesters.iter().map(|a| (a.counts, a.why.as_str())).collect();
    assert!(why[0].0 && !why[1].0 && !why[2].0 && !why[3].0, "{why:?}");
    assert!(why[2].1.contains("not signed") && why[3].1.contains("line 1"), "{why:?}");
}

#[test]
fn a_dissenter_in_the_other_list_is_not_outvoted_either() {
    let t = Three::new();
    let court = t.court(2);
    let mut other = says("c", &t.c, &[("x-1.0", OTHER)]);
    other.kind = ListKind::Noncodesigned;
    let both = [says("a", &t.a, &[("x-1.0", GOOD)]), says("b", &t.b, &[("x-1.0", GOOD)]), other];
    let all = judged(&court, &both);
    assert_eq!(outcome(&all, "x-1.0"), Outcome::Disputed);
    let said = all.check_accepted().unwrap_err().to_string();
    assert!(said.contains("c say bbbb") && said.contains("noncodesigned"), "{said}");
}

#[test]
fn attestations_of_another_version_are_not_this_ones() {
    let t = Three::new();
    let old = ["a", "b"].map(|who| says(who, if who == "a" { &t.a } else { &t.b }, &[("x-0.9", GOOD)]));
    let said = judged(&t.court(2), &old).check_accepted().unwrap_err().to_string();
    assert!(said.contains("has the version in its name"), "{said}");
}

#[test]
fn one_builders_nonsense_does_not_stop_the_others() {
    let t = Three::new();
    let folder = tempfile::tempdir().unwrap();
    for (who, cert) in [("a", &t.a), ("b", &t.b)] {
        let said = says(who, cert, &[("x-1.0", GOOD)]);
        let path = folder.path().join("1.0").join(who);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("all.SHA256SUMS"), said.sums).unwrap();
        std::fs::write(path.join("all.SHA256SUMS.asc"), said.signature).unwrap();
    }
    std::fs::create_dir_all(folder.path().join("1.0/c/all.SHA256SUMS")).unwrap();
    std::fs::create_dir_all(folder.path().join("1.0/d")).unwrap();
    std::fs::write(folder.path().join("1.0/d/all.SHA256SUMS"), vec![b'a'; 5 << 20]).unwrap();
    let submitted = hab_keys::read_attestations(folder.path(), "1.0").unwrap();
    let all = judged(&t.court(2), &submitted);
    assert_eq!(all.lists[1].attesters.len(), 4);
    assert!(all.check_accepted().is_ok());
}

/// What somebody hands in as another kind of list.
fn of_kind(kind: ListKind, submitted: Submitted) -> Submitted {
    Submitted { kind, ..submitted }
}

#[test]
fn lists_of_what_was_codesigned_alone_are_counted_and_contradict_the_others() {
    let t = Three::new();
    let court = t.court(2);
    let says =
        |who: &str, key: &Cert, byte: &str| of_kind(ListKind::Codesigned, says(who, key, &[("x-1.0", byte)]));
    let all = judged(&court, &[says("a", &t.a, GOOD), says("b", &t.b, GOOD)]);
    assert_eq!(all.lists[2].list, ListKind::Codesigned);
    assert_eq!(all.lists[2].files[0].outcome, Outcome::Agreed);
    assert!(all.check_accepted().is_ok());
    let other = of_kind(ListKind::All, says("c", &t.c, OTHER));
    let all = judged(&court, &[says("a", &t.a, GOOD), says("b", &t.b, GOOD), other]);
    assert!(all.check_accepted().unwrap_err().to_string().contains("do not agree on x-1.0"));
}

#[test]
fn a_builder_that_names_two_hashes_of_a_file_fails_that_file_alone() {
    let t = Three::new();
    let court = t.court(2);
    let all = judged(
        &court,
        &[
            says("a", &t.a, &[("x-1.0", GOOD), ("x-1.0", OTHER), ("y-1.0", GOOD)]),
            says("b", &t.b, &[("x-1.0", GOOD), ("y-1.0", GOOD)]),
            says("c", &t.c, &[("x-1.0", GOOD), ("y-1.0", GOOD)]),
        ],
    );
    assert!(all.lists[1].attesters.iter().all(|a| a.counts));
    assert_eq!((outcome(&all, "x-1.0"), outcome(&all, "y-1.0")), (Outcome::Disputed, Outcome::Agreed));
}

#[test]
fn lists_as_other_systems_write_them_agree_with_the_usual_ones() {
    let t = Three::new();
    let court = t.court(3);
    let list = |text: String, who: &str, key: &Cert| Submitted {
        builder: who.to_owned(),
        kind: ListKind::All,
        signature: detached(key, text.as_bytes()),
        sums: text.into_bytes(),
    };
    let hash = GOOD.repeat(32);
    let all = judged(
        &court,
        &[
            list(format!("{hash}  x-1.0\r\n"), "a", &t.a),
            list(format!("SHA256 (x-1.0) = {}\n", hash.to_uppercase()), "b", &t.b),
            list(format!("# by hand\n{hash} *x-1.0\n\n"), "c", &t.c),
        ],
    );
    assert_eq!(outcome(&all, "x-1.0"), Outcome::Agreed);
}

/// A commit with these files: path and bytes.
fn commit(repo: &git2::Repository, files: &[(String, Vec<u8>)]) -> String {
    let mut index = git2::Index::new().unwrap();
    for (path, bytes) in files {
        let entry = git2::IndexEntry {
            ctime: git2::IndexTime::new(0, 0),
            mtime: git2::IndexTime::new(0, 0),
            dev: 0,
            ino: 0,
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: repo.blob(bytes).unwrap(),
            flags: 0,
            flags_extended: 0,
            path: path.clone().into_bytes(),
        };
        index.add(&entry).unwrap();
    }
    let tree = repo.find_tree(index.write_tree_to(repo).unwrap()).unwrap();
    let who = git2::Signature::new("n", "e@x.invalid", &git2::Time::new(1_600_000_000, 0)).unwrap();
    repo.commit(None, &who, &who, "x", &tree, &[]).unwrap().to_string()
}

#[test]
fn attestations_are_read_from_a_commit_of_a_bare_repository() {
    let t = Three::new();
    let folder = tempfile::tempdir().unwrap();
    let repo = git2::Repository::init_bare(folder.path()).unwrap();
    let mut files = vec![("README.md".to_owned(), b"x".to_vec())];
    for (who, key) in [("a", &t.a), ("b", &t.b)] {
        let said = says(who, key, &[("x-1.0", GOOD)]);
        files.push((format!("1.0/{who}/all.SHA256SUMS"), said.sums));
        files.push((format!("1.0/{who}/all.SHA256SUMS.asc"), said.signature));
    }
    // One builder's nonsense does not stop the others.
    files.push(("1.0/c/all.SHA256SUMS".to_owned(), vec![b'a'; 5 << 20]));
    files.push(("1.0/d/all.SHA256SUMS/x".to_owned(), b"a folder".to_vec()));
    files.push(("1.0/stray".to_owned(), b"no folder".to_vec()));
    let id = commit(&repo, &files);
    let read = |version: &str| hab_keys::read_attestations_of(folder.path(), &id, version);
    let submitted = read("1.0").unwrap().unwrap();
    let all = judged(&t.court(2), &submitted);
    assert_eq!(outcome(&all, "x-1.0"), Outcome::Agreed);
    assert_eq!(all.lists[1].attesters.len(), 4);
    assert!(all.check_accepted().is_ok());
    for missing in ["2.0", "README.md", "1", "..", ""] {
        assert!(read(missing).unwrap().is_none(), "{missing}");
    }
    assert!(hab_keys::read_attestations_of(folder.path(), &"1".repeat(40), "1.0").is_err());
}
