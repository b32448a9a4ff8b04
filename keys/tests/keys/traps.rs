//! Known ways to make a careless verifier say yes, each a test by its name.

use std::time::Duration;

use crate::world::{Court, TEXT, cert, clearsign, court, court_of, detached, file, now, policy, said};
use git2::{ObjectType, Oid};
use hab_keys::{Examined, HashList, KeyId, Policy, Refusal, Verdict, VerifiedFile, VerifiedSums};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertRevocationBuilder;
use sequoia_openpgp::types::ReasonForRevocation;

/// What was found of each signature.
fn verdicts(court: &Court, signature: &[u8]) -> Vec<Verdict> {
    let any = file(court, signature);
    match any {
        Ok(file) => file.evidence().signatures.iter().map(|s| s.verdict.clone()).collect(),
        Err(e) => panic!("{e}"),
    }
}

fn revoked(cert: &Cert, why: ReasonForRevocation, at: std::time::SystemTime) -> Cert {
    let mut signer = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let revocation = CertRevocationBuilder::new()
        .set_reason_for_revocation(why, b"test")
        .unwrap()
        .set_signature_creation_time(at)
        .unwrap()
        .build(&mut signer, cert, None)
        .unwrap();
    cert.clone().insert_packets(revocation).unwrap().0
}

#[test]
fn one_key_signing_three_times_is_one_signer() {
    let (a, b) = (cert("a"), cert("b"));
    let court = court("archive-signature", 2, &[&a, &b], &[&a, &b]);
    let three = [detached(&a, TEXT), detached(&a, TEXT), detached(&a, TEXT)].concat();
    assert!(matches!(file(&court, &three), Err(Refusal::Signatures { good: 1, threshold: 2, .. })));
    assert!(file(&court, &[three, detached(&b, TEXT)].concat()).is_ok());
}

#[test]
fn a_revoked_or_unknown_key_never_counts_however_often() {
    let (pinned, unknown) = (cert("pinned"), cert("unknown"));
    for why in [ReasonForRevocation::KeyCompromised, ReasonForRevocation::KeyRetired] {
        let revoked = revoked(&pinned, why, now() - Duration::from_mins(1));
        let court = court("archive-signature", 1, &[&pinned], &[&revoked, &unknown]);
        let signatures =
            [detached(&pinned, TEXT), detached(&pinned, TEXT), detached(&unknown, TEXT)].concat();
        let said = said(file(&court, &signatures));
        assert!(
            said.contains("0 of 1") && said.contains("revoked") && said.contains("not a pinned key"),
            "{said}"
        );
    }
    // A policy that lets expired keys count does not let revoked ones.
    let revoked = revoked(&pinned, ReasonForRevocation::KeyRetired, now() - Duration::from_mins(1));
    let lenient = Policy::parse(
        "test",
        &policy("archive-signature", 1, &[&pinned])
            .text()
            .replace("threshold = 1", "threshold = 1\nexpired-since = true"),
    )
    .unwrap();
    assert!(file(&court_of(lenient, &[&revoked]), &detached(&pinned, TEXT)).is_err());
}

#[test]
fn a_key_that_matches_only_in_its_last_64_bits_does_not_count() {
    let key = cert("key");
    let fingerprint = key.fingerprint().to_string();
    let (_, last) = fingerprint.split_at(24);
    let text = policy("archive-signature", 1, &[&key])
        .text()
        .replace(&fingerprint, &format!("{}{last}", "A".repeat(24)));
    let policy = Policy::parse("test", &text).unwrap();
    // The certificate lies where certificates are searched, and is not even read.
    let (_folder, places) = crate::world::keyring(&[&key]);
    assert!(matches!(hab_keys::Certificates::find(&policy, &places), Err(Refusal::NoCertificates { .. })));
    let all = hab_keys::Certificates::read(&places, |_| true).unwrap();
    let judge = hab_keys::Judge::new(&policy, &all, now());
    let refused = VerifiedFile::detached("file", TEXT, ("file.asc", &detached(&key, TEXT)), &judge);
    assert!(said(refused).contains("not a pinned key"));
}

#[test]
fn a_detached_signature_over_other_bytes_does_not_count() {
    let key = cert("key");
    let court = court("archive-signature", 1, &[&key], &[&key]);
    assert!(matches!(
        file(&court, &detached(&key, b"other bytes\n")),
        Err(Refusal::Signatures { good: 0, .. })
    ));
    assert_eq!(verdicts(&court, &detached(&key, TEXT)), [Verdict::Good]);
}

/// A signed commit with these headers after the committer.
fn commit(key: &Cert, headers: &str) -> (String, Vec<u8>) {
    let before = "tree 94302503b9e73730a316c97c0e48ad274bdbfed2\n\
                  parent 18c05d93016b28a9afd4c716dfe00b6e0accb30b\n\
                  author A <a@x.invalid> 1700000000 +0000\ncommitter A <a@x.invalid> 1700000000 +0000\n";
    let signature =
        String::from_utf8(detached(key, format!("{before}{headers}\nMessage\n").as_bytes())).unwrap();
    let header = format!("gpgsig {}\n", signature.trim_end().replace('\n', "\n "));
    identified(format!("{before}{header}{headers}\nMessage\n").into_bytes())
}

fn identified(bytes: Vec<u8>) -> (String, Vec<u8>) {
    (Oid::hash_object(ObjectType::Commit, &bytes).unwrap().to_string(), bytes)
}

#[test]
fn a_commit_whose_signature_covers_other_headers_is_refused() {
    let key = cert("key");
    let court = court("tag", 1, &[&key], &[&key]);
    let examine = |(id, bytes): (String, Vec<u8>)| Examined::commit(&id, &bytes, &court.judge());
    let good = commit(&key, "");
    assert_eq!(examine(good.clone()).unwrap().signatures[0].verdict, Verdict::Good);
    assert_eq!(examine(commit(&key, "encoding ISO-8859-1\n")).unwrap().signatures[0].verdict, Verdict::Good);
    let text = String::from_utf8(good.1.clone()).unwrap();
    // What a graft would have a repository say: another parent, or none. The signature covers the real ones.
    let parent = "parent 18c05d93016b28a9afd4c716dfe00b6e0accb30b\n";
    for other in
        [text.replace(parent, ""), text.replace(parent, &parent.repeat(2)), text.replace("Message", "Other")]
    {
        let examined = examine(identified(other.into_bytes())).unwrap();
        assert!(matches!(examined.signatures[0].verdict, Verdict::Bad(_)), "{examined:?}");
    }
    // A second signature header, before or after the first: readers differ about which one counts.
    let block = &text[text.find("gpgsig").unwrap()..=text.find("\n\nMessage").unwrap()];
    let twice = identified(text.replace(block, &block.repeat(2)).into_bytes());
    assert!(examine(twice).unwrap_err().to_string().contains("stands twice"));
    // Bytes that are not the object they are stored as.
    assert!(examine((good.0, text.replace("Message", "Other").into_bytes())).is_err());
}

#[test]
#[allow(unsafe_code)] // git2 does not wrap the one function that tells
fn a_sha1_collision_attempt_meets_a_hash_that_looks_for_it() {
    // A colliding object cannot be made here. What can be asserted is that object ids are computed by the implementation
    // which notices the attack ("builtin": sha1dc), and not by a fast one of the system.
    unsafe extern "C" {
        fn git_libgit2_feature_backend(feature: std::ffi::c_int) -> *const std::ffi::c_char;
    }
    libgit2();
    // SAFETY: it takes a number and returns a pointer to a constant text, or null.
    let backend = unsafe {
        let text = git_libgit2_feature_backend(GIT_FEATURE_SHA1);
        assert!(!text.is_null());
        std::ffi::CStr::from_ptr(text)
    };
    assert_eq!(backend.to_str().unwrap(), "builtin");
}

/// GIT_FEATURE_SHA1 of libgit2's common.h.
const GIT_FEATURE_SHA1: std::ffi::c_int = 1 << 10;

/// Initialises libgit2.
fn libgit2() {
    assert!(git2::Version::get().libgit2_version() >= (1, 9, 0));
}

#[test]
fn a_certificate_without_a_valid_self_signature_at_the_time_asked_does_not_count() {
    let key = cert("key");
    // Stripped of the signatures that bind its subkey and user id.
    let packets: Vec<_> =
        key.clone().into_packets().filter(|p| !matches!(p, sequoia_openpgp::Packet::Signature(_))).collect();
    let bare = Cert::from_packets(packets.into_iter()).unwrap();
    let court = court("archive-signature", 1, &[&key], &[&bare]);
    assert!(matches!(file(&court, &detached(&key, TEXT)), Err(Refusal::Signatures { good: 0, .. })));
}

#[test]
fn a_weak_hash_is_refused_unless_the_policy_says_for_whom_and_until_when() {
    let key = cert("key");
    let weak = crate::world::detached_with(&key, TEXT, sequoia_openpgp::types::HashAlgorithm::SHA1);
    let plain = policy("archive-signature", 1, &[&key]);
    let said_plainly = said(file(&court_of(plain.clone(), &[&key]), &weak));
    assert!(said_plainly.contains("too weak") && said_plainly.contains("SHA1"), "{said_plainly}");
    let with = |fingerprint: &Cert, until: &str| {
        let exception = format!(
            "[[weak-hash]]\nfingerprint = \"{}\"\nhash = \"sha1\"\nuntil = \"{until}\"\nreason = \"r\"\n",
            fingerprint.fingerprint()
        );
        Policy::parse("test", &format!("{}{exception}", plain.text())).map(|p| court_of(p, &[&key]))
    };
    assert!(file(&with(&key, "2120-01-01").unwrap(), &weak).is_ok());
    assert!(file(&with(&key, "2020-01-01").unwrap(), &weak).is_err());
    assert!(with(&cert("other"), "2120-01-01").is_err());
}

#[test]
fn a_pinned_key_without_its_certificate_is_named() {
    let (key, other) = (cert("key"), cert("other"));
    let court = court("archive-signature", 1, &[&key, &other], &[&other]);
    let said = said(file(&court, &detached(&key, TEXT)));
    // The signature names its subkey; only where it names the primary key itself is it known whose it is.
    assert!(said.contains("the certificate of n is missing, and may have it"), "{said}");
    let primary = crate::world::primary_signer();
    let court = court_of(policy("archive-signature", 1, &[&primary, &other]), &[&other]);
    let said = self::said(file(&court, &detached(&primary, TEXT)));
    assert!(said.contains("pinned, certificate missing"), "{said}");
}

#[test]
fn a_list_of_hashes_is_believed_only_as_a_whole_and_signed() {
    let key = cert("key");
    let court = court("signed-hashes", 1, &[&key], &[&key]);
    let list = format!("{}  file\n", "ab".repeat(32));
    let good = detached(&key, list.as_bytes());
    let verify =
        |list: &str| VerifiedSums::verify("SHA256SUMS", list.as_bytes(), &[("s", &good)], &court.judge());
    assert!(verify(&list).unwrap().list().get("file").is_some());
    assert!(verify(&format!("{list}{list}")).is_err());
    assert!(HashList::parse(b"not a list").is_err());
    let id: KeyId = key.fingerprint().to_string().parse().unwrap();
    assert!(court.policy.pin(&id).is_some());
}

#[test]
fn an_archive_that_meets_only_a_part_of_what_is_demanded_is_refused() {
    let key = cert("key");
    let text = policy("archive-signature", 1, &[&key]).text().replace(
        "name = \"test\"",
        "name = \"test\"\naccept = { all = [\"it\", \"more\"] }\n[require.more]\nkind = \"tag\"\nthreshold = 1",
    );
    let court = court_of(Policy::parse("test", &text).unwrap(), &[&key]);
    let release = clearsign(&key, "Codename: stable\nDate: Sat, 11 Jan 2025 10:05:31 UTC\nSHA256:\n");
    let refused = hab_keys::debian::VerifiedRelease::verify(&release, "stable", &court.judge()).unwrap_err();
    assert!(refused.to_string().contains("accepts it and more; met: it"), "{refused}");
}
