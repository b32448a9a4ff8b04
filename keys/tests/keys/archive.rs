//! A Debian archive that the test makes and signs: what is accepted, and every link of the chain broken once.

use crate::world::{Court, cert, clearsign, court, now};
use hab_keys::debian::VerifiedRelease;
use hab_keys::{Refusal, Verdict};
use hab_oci::Digest;
use sequoia_openpgp::Cert;

struct Archive {
    in_release: Vec<u8>,
    sources: Vec<u8>,
    dsc: Vec<u8>,
}

const INDEX: &str = "main/source/Sources.xz";

fn hex(bytes: &[u8]) -> String {
    Digest::of(bytes).hex().to_owned()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const DATE: &str = "Date: Sat, 11 Jan 2025 10:05:31 UTC";

fn archive(signed_by: &Cert, suite: &str) -> Archive {
    archive_of(signed_by, suite, DATE)
}

/// An archive whose InRelease has the lines `dates`.
fn archive_of(signed_by: &Cert, suite: &str, dates: &str) -> Archive {
    let tarball = b"upstream";
    let debian = b"packaging";
    let lines = format!(
        " {} {} lib_1.0.orig.tar.gz\n {} {} lib_1.0-1.debian.tar.xz\n",
        hex(tarball),
        tarball.len(),
        hex(debian),
        debian.len()
    );
    let dsc = clearsign(
        &cert("uploader"),
        &format!("Format: 3.0 (quilt)\nSource: lib\nVersion: 1.0-1\nChecksums-Sha256:\n{lines}"),
    );
    let sources = xz(format!(
        "Package: other\nVersion: 1\nDirectory: pool/o\n\nPackage: lib\nBinary: lib1\nVersion: 1.0-1\n\
         Directory: pool/main/l/lib\nChecksums-Sha256:\n{lines} {} {} lib_1.0-1.dsc\n",
        hex(&dsc),
        dsc.len()
    )
    .as_bytes());
    let listed = format!(" {} {} {INDEX}\n", hex(&sources), sources.len());
    let release = format!("Origin: Test\nCodename: {suite}\n{dates}\nSHA256:\n{listed}");
    Archive { in_release: clearsign(signed_by, &release), sources, dsc }
}

fn verify(archive: &Archive, court: &Court) -> Result<VerifiedRelease, Refusal> {
    VerifiedRelease::verify(&archive.in_release, "stable", &court.judge())
}

#[test]
fn a_whole_chain_makes_a_verified_source_with_its_evidence() {
    let key = cert("archive");
    let archive = archive(&key, "stable");
    let release = verify(&archive, &court("archive-signature", 1, &[&key], &[&key])).unwrap();
    let index = release.open(INDEX, &archive.sources).unwrap();
    let listed = index.source("lib", None).unwrap();
    assert_eq!(listed.version(), "1.0-1");
    let source = listed.verify(&archive.dsc, 42).unwrap();
    assert_eq!(source.digest(), &Digest::of(&archive.dsc));
    assert_eq!(source.epoch(), 42);
    let names: Vec<_> = source.files().iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["lib_1.0.orig.tar.gz", "lib_1.0-1.debian.tar.xz"]);
    let evidence = source.evidence();
    assert_eq!(evidence.documents.len(), 5, "InRelease, Sources, dsc, two tarballs");
    assert_eq!(evidence.signatures[0].verdict, Verdict::Good);
    assert_eq!(evidence.signatures[0].key, key.fingerprint().to_string());
}

#[test]
fn an_index_signed_by_a_key_that_is_not_pinned_is_refused() {
    let (pinned, other) = (cert("pinned"), cert("other"));
    let archive = archive(&other, "stable");
    let refusal =
        verify(&archive, &court("archive-signature", 1, &[&pinned], &[&pinned, &other])).unwrap_err();
    assert!(matches!(refusal, Refusal::Signatures { good: 0, .. }), "{refusal}");
}

#[test]
fn one_flipped_byte_in_the_signed_text_is_refused() {
    let key = cert("archive");
    let mut archive = archive(&key, "stable");
    let at = archive.in_release.windows(4).position(|w| w == b"Test").unwrap();
    archive.in_release[at] ^= 1;
    let refusal = verify(&archive, &court("archive-signature", 1, &[&key], &[&key])).unwrap_err();
    assert!(matches!(refusal, Refusal::Signatures { .. } | Refusal::Unreadable { .. }), "{refusal}");
}

#[test]
fn text_outside_the_signature_is_not_read() {
    let key = cert("archive");
    let mut archive = archive(&key, "stable");
    archive.in_release.extend_from_slice(b"\nSHA256:\n 00 1 evil\n");
    // Either the whole message is refused or the added text is not part of what was verified.
    if let Ok(release) = verify(&archive, &court("archive-signature", 1, &[&key], &[&key])) {
        assert!(release.index("evil").is_err());
        assert!(release.index(INDEX).is_ok());
    }
}

#[test]
fn an_unsigned_index_is_refused() {
    let key = cert("archive");
    let mut archive = archive(&key, "stable");
    archive.in_release = b"Codename: stable\nSHA256:\n".to_vec();
    let refusal = verify(&archive, &court("archive-signature", 1, &[&key], &[&key])).unwrap_err();
    assert!(matches!(refusal, Refusal::Unsigned { .. }), "{refusal}");
}

#[test]
fn a_signed_index_of_another_suite_is_refused() {
    let key = cert("archive");
    let archive = archive(&key, "testing");
    let refusal = verify(&archive, &court("archive-signature", 1, &[&key], &[&key])).unwrap_err();
    assert!(refusal.to_string().contains("signed for testing, not for stable"), "{refusal}");
}

#[test]
fn another_sources_index_another_dsc_and_an_unknown_package_are_refused() {
    let key = cert("archive");
    let archive = archive(&key, "stable");
    let release = verify(&archive, &court("archive-signature", 1, &[&key], &[&key])).unwrap();
    assert!(matches!(release.open(INDEX, &xz(b"other")), Err(Refusal::WrongDigest { .. })));
    let index = release.open(INDEX, &archive.sources).unwrap();
    assert!(matches!(index.source("nothing", None), Err(Refusal::NotListed { .. })));
    assert!(matches!(index.source("lib", Some("2.0")), Err(Refusal::NotListed { .. })));
    let listed = index.source("lib", Some("1.0-1")).unwrap();
    let mut tampered = archive.dsc.clone();
    tampered[100] ^= 1;
    assert!(matches!(listed.verify(&tampered, 0), Err(Refusal::WrongDigest { .. })));
}

#[test]
fn two_required_signatures_are_not_one_key_twice() {
    let (a, b) = (cert("a"), cert("b"));
    let archive = archive(&a, "stable");
    let refusal = verify(&archive, &court("archive-signature", 2, &[&a, &b], &[&a, &b])).unwrap_err();
    assert!(matches!(refusal, Refusal::Signatures { good: 1, threshold: 2, .. }), "{refusal}");
}

#[test]
fn an_expired_key_does_not_count() {
    let key = cert("archive");
    let archive = archive(&key, "stable");
    let court = court("archive-signature", 1, &[&key], &[&key]);
    let later = now() + std::time::Duration::from_hours(72);
    let result = VerifiedRelease::verify(&archive.in_release, "stable", &court.judge_at(later));
    assert!(matches!(result, Err(Refusal::Signatures { good: 0, .. })));
}

#[test]
fn a_retired_certificate_and_an_expired_subkey_do_not_count() {
    use sequoia_openpgp::types::{ReasonForRevocation, SignatureType};
    let key = cert("archive");
    let archive = archive(&key, "stable");
    // Retired after it signed: sequoia itself would still accept what it signed before.
    let later = now() + std::time::Duration::from_hours(1);
    let mut signer = key.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let revocation = sequoia_openpgp::cert::CertRevocationBuilder::new()
        .set_reason_for_revocation(ReasonForRevocation::KeyRetired, b"")
        .unwrap()
        .set_signature_creation_time(later)
        .unwrap()
        .build(&mut signer, &key, None)
        .unwrap();
    assert_eq!(revocation.typ(), SignatureType::KeyRevocation);
    let retired = key.clone().insert_packets(revocation).unwrap().0;
    let court = court("archive-signature", 1, &[&key], &[&retired]);
    let much_later = later + std::time::Duration::from_hours(1);
    let result = VerifiedRelease::verify(&archive.in_release, "stable", &court.judge_at(much_later));
    assert!(matches!(result, Err(Refusal::Signatures { good: 0, .. })), "{result:?}");
}

#[test]
fn a_policy_about_tags_does_not_decide_about_archives() {
    let key = cert("archive");
    let archive = archive(&key, "stable");
    let refusal = verify(&archive, &court("tag", 1, &[&key], &[&key])).unwrap_err();
    assert!(matches!(refusal, Refusal::WrongPolicy { .. }), "{refusal}");
}

#[test]
fn without_a_certificate_the_refusal_says_where_it_was_searched() {
    let (pinned, other) = (cert("pinned"), cert("other"));
    let policy = crate::world::policy("archive-signature", 1, &[&pinned]);
    let (folder, places) = crate::world::keyring(&[&other]);
    let refusal = hab_keys::Certificates::find(&policy, &places).unwrap_err();
    assert!(refusal.to_string().contains(folder.path().to_str().unwrap()), "{refusal}");
}

#[test]
fn the_dates_of_an_index_are_read_and_held() {
    let key = cert("archive");
    let court = court("archive-signature", 1, &[&key], &[&key]);
    let judged = |dates: &str| verify(&archive_of(&key, "stable", dates), &court);
    assert_eq!(judged(DATE).unwrap().date().to_string(), "2025-01-11T10:05:31Z");
    assert!(judged(&format!("{DATE}\nValid-Until: Thu, 11 Jan 2125 10:05:31 UTC")).is_ok());
    for (dates, said) in [
        (format!("{DATE}\nValid-Until: Sat, 18 Jan 2025 10:05:31 UTC"), "only valid until 2025-01-18"),
        (format!("{DATE}\nValid-Until: for ever"), "Valid-Until is \"for ever\""),
        ("Date: yesterday".to_owned(), "Date is \"yesterday\""),
        ("Label: Test".to_owned(), "it has no Date"),
    ] {
        let refusal = judged(&dates).unwrap_err().to_string();
        assert!(refusal.contains(said), "{refusal}");
    }
}
