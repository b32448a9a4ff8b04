//! Signed lists of hashes in the forms that people publish them in.

use crate::world::{Court, cert, clearsign, court, detached};
use hab_keys::{Refusal, VerifiedSums};
use sequoia_openpgp::Cert;

fn line(name: &str, byte: &str) -> String {
    format!("{}  {name}\n", byte.repeat(32))
}

fn verify(court: &Court, bytes: &[u8]) -> Result<VerifiedSums, Refusal> {
    VerifiedSums::verify("SHA256SUMS.asc", bytes, &[], &court.judge())
}

fn names(sums: &VerifiedSums) -> Vec<&str> {
    sums.list().entries().keys().map(String::as_str).collect()
}

struct Two {
    a: Cert,
    b: Cert,
}

impl Two {
    fn new() -> Self {
        Self { a: cert("a"), b: cert("b") }
    }

    fn court(&self, threshold: usize) -> Court {
        court("signed-hashes", threshold, &[&self.a, &self.b], &[&self.a, &self.b])
    }
}

#[test]
fn several_clearsigned_lists_in_one_file_are_counted_file_by_file() {
    let two = Two::new();
    let by_a = clearsign(&two.a, &(line("x", "aa") + &line("y", "aa")));
    let by_b = clearsign(&two.b, &(line("x", "aa") + &line("z", "aa")));
    let both = [by_a.clone(), b"\n\n".to_vec(), by_b].concat();
    assert_eq!(names(&verify(&two.court(2), &both).unwrap()), ["x"]);
    assert_eq!(names(&verify(&two.court(1), &both).unwrap()), ["x", "y", "z"]);
    assert_eq!(verify(&two.court(2), &both).unwrap().evidence().signatures.len(), 2);
    // One signer is one, however often its list stands there.
    let twice = [by_a.clone(), by_a].concat();
    assert!(matches!(verify(&two.court(2), &twice), Err(Refusal::Signatures { good: 1, threshold: 2, .. })));
}

#[test]
fn signers_that_count_and_say_different_things_of_a_file_fail_that_file_alone() {
    let two = Two::new();
    let by_a = clearsign(&two.a, &(line("x", "aa") + &line("y", "aa")));
    let by_b = clearsign(&two.b, &(line("x", "bb") + &line("y", "aa")));
    let sums = verify(&two.court(1), &[by_a.clone(), by_b.clone()].concat()).unwrap();
    assert_eq!(names(&sums), ["y"]);
    assert_eq!(sums.list().contested()["x"].len(), 2);
    // Whoever does not count does not contest either.
    let one = court("signed-hashes", 1, &[&two.a], &[&two.a, &two.b]);
    assert_eq!(names(&verify(&one, &[by_a, by_b].concat()).unwrap()), ["x", "y"]);
}

#[test]
fn nothing_stands_before_between_or_after_clearsigned_lists() {
    let two = Two::new();
    let (by_a, by_b) = (clearsign(&two.a, &line("x", "aa")), clearsign(&two.b, &line("x", "aa")));
    let stray = line("evil", "cc").into_bytes();
    for bad in [
        [stray.clone(), by_a.clone()].concat(),
        [by_a.clone(), stray.clone(), by_b].concat(),
        [by_a.clone(), stray].concat(),
        [&by_a[..], &by_a[..by_a.len() / 2]].concat(),
        line("x", "aa").into_bytes(),
        Vec::new(),
    ] {
        assert!(verify(&two.court(1), &bad).is_err(), "{}", String::from_utf8_lossy(&bad));
    }
    assert!(verify(&two.court(1), &by_a).is_ok());
}

#[test]
fn a_tampered_clearsigned_list_says_nothing() {
    let two = Two::new();
    let forged = String::from_utf8(clearsign(&two.a, &line("x", "aa"))).unwrap().replace("aaaa", "bbaa");
    let both = [forged.into_bytes(), clearsign(&two.b, &line("y", "aa"))].concat();
    assert_eq!(names(&verify(&two.court(1), &both).unwrap()), ["y"]);
}

#[test]
fn a_list_with_windows_line_ends_is_accepted_byte_for_byte() {
    let key = cert("key");
    let court = court("signed-hashes", 1, &[&key], &[&key]);
    let list = line("x", "aa").replace('\n', "\r\n") + &line("y", "AB").replace('\n', "\r\n");
    let signature = detached(&key, list.as_bytes());
    let judged = |bytes: &[u8]| VerifiedSums::verify("S", bytes, &[("S.asc", &signature)], &court.judge());
    assert_eq!(names(&judged(list.as_bytes()).unwrap()), ["x", "y"]);
    // The signature is over the bytes as they are: what another tool made of the line ends is not signed.
    assert!(judged(list.replace("\r\n", "\n").as_bytes()).is_err());
}
