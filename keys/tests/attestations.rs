//! Builders that agree, omit, dissent and pretend.
#![allow(clippy::unwrap_used, missing_docs)]

mod world;

use hab_keys::attestations::Outcome;
use hab_keys::{Attestations, ListKind, Policy, Submitted};
use sequoia_openpgp::Cert;
use world::{Court, cert, court_of, detached};

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
            says("a", &t.a, &[("x", GOOD), ("y", GOOD)]),
            says("b", &t.b, &[("x", GOOD)]),
            says("c", &t.c, &[("x", GOOD)]),
        ],
    );
    assert_eq!(outcome(&all, "x"), Outcome::Agreed);
    assert_eq!(outcome(&all, "y"), Outcome::TooFew);
    assert!(all.settle().is_ok());
    let few = judged(&court, &[says("a", &t.a, &[("x", GOOD)])]);
    assert!(few.settle().unwrap_err().to_string().contains("no file on which 2 builders"));
}

#[test]
fn a_builder_that_counts_and_dissents_is_never_outvoted() {
    let t = Three::new();
    let court = t.court(1);
    let all = judged(
        &court,
        &[
            says("a", &t.a, &[("x", GOOD), ("y", GOOD)]),
            says("b", &t.b, &[("x", GOOD), ("y", GOOD)]),
            says("c", &t.c, &[("x", OTHER), ("y", GOOD)]),
        ],
    );
    assert_eq!((outcome(&all, "x"), outcome(&all, "y")), (Outcome::Disputed, Outcome::Agreed));
    let said = all.settle().unwrap_err().to_string();
    assert!(
        said.contains("do not agree on x") && said.contains("a, b say aaaa") && said.contains("c say bbbb"),
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
            says("a", &t.a, &[("x", GOOD)]),
            says("b", &t.b, &[("x", GOOD)]),
            says("stranger", &stranger, &[("x", OTHER), ("z", OTHER)]),
        ],
    );
    assert_eq!((outcome(&all, "x"), outcome(&all, "z")), (Outcome::Agreed, Outcome::TooFew));
    assert!(!all.lists[1].attesters[2].counts);
}

#[test]
fn a_builder_is_bound_to_the_key_of_its_folder() {
    let t = Three::new();
    let court = t.court(2);
    // One key in three folders is one builder, and only in its own.
    let all = judged(&court, &["a", "b", "c"].map(|folder| says(folder, &t.a, &[("x", GOOD)])));
    assert_eq!(outcome(&all, "x"), Outcome::TooFew);
    assert!(all.lists[1].attesters[1].why.contains("not the key of this folder"));
}

#[test]
fn one_key_with_two_folders_is_counted_once() {
    let (a, b) = (cert("a"), cert("b"));
    let text =
        court(2, &[("a", &a), ("b", &b)], &[&a, &b]).policy.text().replace("[\"a\"]", "[\"a\", \"old-a\"]");
    let court = court_of(Policy::parse("test", &text).unwrap(), &[&a, &b]);
    let twice = [says("a", &a, &[("x", GOOD)]), says("old-a", &a, &[("x", GOOD)])];
    assert_eq!(outcome(&judged(&court, &twice), "x"), Outcome::TooFew);
}

#[test]
fn what_is_tampered_with_unsigned_or_no_list_does_not_count() {
    let t = Three::new();
    let court = t.court(2);
    let mut tampered = says("b", &t.b, &[("x", OTHER)]);
    tampered.sums = says("b", &t.b, &[("x", GOOD)]).sums;
    let mut unsigned = says("c", &t.c, &[("x", GOOD)]);
    unsigned.signature.clear();
    let nonsense =
        Submitted { signature: detached(&t.c, b"no list"), sums: b"no list".to_vec(), ..unsigned.clone() };
    let all = judged(&court, &[says("a", &t.a, &[("x", GOOD)]), tampered, unsigned, nonsense]);
    assert_eq!(outcome(&all, "x"), Outcome::TooFew);
    let why: Vec<_> = all.lists[1].attesters.iter().map(|a| (a.counts, a.why.as_str())).collect();
    assert!(why[0].0 && !why[1].0 && !why[2].0 && !why[3].0, "{why:?}");
    assert!(why[2].1.contains("not signed") && why[3].1.contains("line 1"), "{why:?}");
}
