//! Known ways to make a careless verifier say yes, each a test by its name.
#![allow(clippy::unwrap_used, missing_docs)]

mod world;

use std::time::Duration;

use git2::{ObjectType, Oid};
use hab_keys::{Examined, HashList, KeyId, Policy, Refusal, Verdict, VerifiedFile, VerifiedSums};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertRevocationBuilder;
use sequoia_openpgp::types::ReasonForRevocation;
use world::{Court, cert, clearsign, court, court_of, detached, detached_at, now, policy};

const TEXT: &[u8] = b"the signed bytes\n";
const DAY: Duration = Duration::from_hours(24);

fn file(court: &Court, signature: &[u8]) -> Result<VerifiedFile, Refusal> {
    VerifiedFile::detached("file", TEXT, ("file.asc", signature), &court.judge())
}

/// What was found of each signature.
fn verdicts(court: &Court, signature: &[u8]) -> Vec<Verdict> {
    let any = file(court, signature);
    match any {
        Ok(file) => file.evidence().signatures.iter().map(|s| s.verdict.clone()).collect(),
        Err(e) => panic!("{e}"),
    }
}

fn said(result: Result<VerifiedFile, Refusal>) -> String {
    result.unwrap_err().to_string()
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
    let (_folder, places) = world::keyring(&[&key]);
    assert!(matches!(hab_keys::Certificates::find(&policy, &places), Err(Refusal::NoCertificates { .. })));
    let all = hab_keys::Certificates::read(&places, |_| true).unwrap();
    let judge = hab_keys::Judge::new(&policy, &all, now());
    let refused = VerifiedFile::detached("file", TEXT, ("file.asc", &detached(&key, TEXT)), &judge);
    assert!(said(refused).contains("not a pinned key"));
}

#[test]
fn a_signature_whose_embedded_time_lies_is_judged_by_the_clock() {
    // Valid for two days from yesterday.
    let key = cert("key");
    let court = court("archive-signature", 1, &[&key], &[&key]);
    let back = |at| {
        VerifiedFile::detached(
            "file",
            TEXT,
            ("s", &detached_at(&key, TEXT, now() - DAY / 2)),
            &court.judge_at(at),
        )
        .map(drop)
    };
    assert!(back(now()).is_ok());
    // Dated into the key's life, but seen after it: whoever holds an expired key can write any date.
    let late = back(now() + 3 * DAY).unwrap_err().to_string();
    assert!(late.contains("valid when made, expired since"), "{late}");
    // Dated into the future, or before the key was made.
    for at in [now() + DAY / 2, now() - 3 * DAY] {
        assert!(file(&court, &detached_at(&key, TEXT, at)).is_err());
    }
}

#[test]
fn a_key_that_expired_since_counts_where_the_policy_says_so_or_it_was_seen_before() {
    struct SeenThen(std::time::SystemTime);
    impl hab_keys::FirstSeen for SeenThen {
        fn first_seen(&self, _: &hab_oci::Digest) -> Option<std::time::SystemTime> {
            Some(self.0)
        }
    }
    let key = cert("key");
    let signature = detached(&key, TEXT);
    let strict = court("archive-signature", 1, &[&key], &[&key]);
    let later = now() + 3 * DAY;
    let judged = |judge: hab_keys::Judge<'_>| VerifiedFile::detached("file", TEXT, ("s", &signature), &judge);
    assert!(judged(strict.judge_at(later)).is_err());
    // This farm saw it when the key was alive.
    let memory = SeenThen(now());
    let seen = judged(strict.judge_at(later).remembering(&memory)).unwrap();
    // A memory of a time when it was not good yet does not speak against it.
    let early = SeenThen(now() - 3 * DAY);
    assert!(judged(strict.judge().remembering(&early)).is_ok());
    assert_eq!(seen.evidence().signatures[0].basis, hab_keys::Basis::FirstSeen);
    // A memory of the future is a clock that was wrong.
    let memory = SeenThen(later + DAY);
    assert!(judged(strict.judge_at(later).remembering(&memory)).is_err());
    let text = strict.policy.text().replace("threshold = 1", "threshold = 1\nexpired-since = true");
    let lenient = court_of(Policy::parse("test", &text).unwrap(), &[&key]);
    let found = judged(lenient.judge_at(later)).unwrap();
    assert!(matches!(found.evidence().signatures[0].verdict, Verdict::ExpiredSince(_)));
}

#[test]
fn a_pin_has_a_range() {
    let key = cert("key");
    let with = |line: &str| {
        let text =
            policy("archive-signature", 1, &[&key]).text().replace("reason", &format!("{line}\nreason"));
        court_of(Policy::parse("test", &text).unwrap(), &[&key])
    };
    let signature = detached(&key, TEXT);
    assert!(file(&with("since = \"2020-01-01\""), &signature).is_ok());
    assert!(said(file(&with("since = \"2120-01-01\""), &signature)).contains("since when its key is pinned"));
    assert!(said(file(&with("until = \"2020-01-01\""), &signature)).contains("until when its key is pinned"));
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
fn line_endings_and_trailing_white_space_in_clearsigned_text() {
    let key = cert("key");
    let court = court("archive-signature", 1, &[&key], &[&key]);
    let signed = String::from_utf8(clearsign(&key, "first\nsecond\n")).unwrap();
    let content = |text: &str| {
        let file = VerifiedFile::clearsigned("file", text.as_bytes(), &court.judge());
        file.map(|f| String::from_utf8(f.content().unwrap().to_vec()).unwrap())
    };
    assert_eq!(content(&signed).unwrap().trim_end(), "first\nsecond");
    // RFC 9580, section 7.2: neither is signed, so neither may reach a reader.
    let spaced = signed.replace("first\n", "first \t\n");
    assert!(!content(&spaced).is_ok_and(|text| text.contains("first \t")));
    let windows = signed.replace("first\n", "first\r\n");
    assert!(!content(&windows).is_ok_and(|text| text.contains("first\r\r")));
    for other in [
        signed.replace("first", "First"),
        signed.replace("first\n", "first\nmore\n"),
        signed.replace("second", ""),
    ] {
        assert!(content(&other).is_err(), "{other}");
    }
}

#[test]
fn one_broken_signature_among_good_ones_neither_sinks_nor_helps_the_count() {
    let (a, b) = (cert("a"), cert("b"));
    let broken = String::from_utf8(detached(&b, TEXT)).unwrap();
    let lines: Vec<_> = broken.lines().collect();
    let middle = lines[lines.len() / 2];
    let broken = broken.replace(middle, &middle.chars().rev().collect::<String>());
    let both = [detached(&a, TEXT), broken.into_bytes()].concat();
    assert!(file(&court("archive-signature", 1, &[&a, &b], &[&a, &b]), &both).is_ok());
    let two = court("archive-signature", 2, &[&a, &b], &[&a, &b]);
    assert!(matches!(file(&two, &both), Err(Refusal::Signatures { good: 1, .. })));
}

#[test]
fn an_armored_block_with_extra_data_is_refused() {
    let key = cert("key");
    let court = court("archive-signature", 1, &[&key], &[&key]);
    let good = String::from_utf8(detached(&key, TEXT)).unwrap();
    assert!(file(&court, good.as_bytes()).is_ok());
    for bad in [format!("{good}more\n"), format!("more\n{good}"), good.replace("-----END", "x\n-----END")] {
        assert!(file(&court, bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_signature_of_100_mb_is_refused_by_its_size() {
    let key = cert("key");
    let court = court("archive-signature", 1, &[&key], &[&key]);
    let good = detached(&key, TEXT);
    let start = std::time::Instant::now();
    for padding in [&b"\n"[..], b"\x99"] {
        let huge = [good.as_slice(), &padding.repeat(100 << 20)].concat();
        let said = said(file(&court, &huge));
        assert!(said.contains("are more than signatures may have"), "{said}");
    }
    // Not a measurement: reading it all as OpenPGP would take minutes.
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_weak_hash_is_refused_unless_the_policy_says_for_whom_and_until_when() {
    let key = cert("key");
    let weak = world::detached_with(&key, TEXT, sequoia_openpgp::types::HashAlgorithm::SHA1);
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
    assert!(said.contains("not a pinned key") || said.contains("certificate missing"), "{said}");
    let primary = world::primary_signer();
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

/// A certificate with a signing subkey, made a while ago, that is valid for so many days.
fn old_cert(made: Duration, valid: Duration) -> Cert {
    sequoia_openpgp::cert::CertBuilder::new()
        .add_userid("old")
        .set_creation_time(now() - made)
        .set_validity_period(valid)
        .add_signing_subkey()
        .generate()
        .unwrap()
        .0
}

/// The policy in which expired keys count, with another line for the key.
fn lenient(key: &Cert, line: &str, known: &Cert) -> Court {
    let text = policy("archive-signature", 1, &[key]).text().to_owned();
    let text = text.replace("threshold = 1", "threshold = 1\nexpired-since = true");
    court_of(Policy::parse("test", &text.replace("reason", &format!("{line}\nreason"))).unwrap(), &[known])
}

#[test]
fn a_key_that_expires_does_not_come_back_into_the_range_of_its_pin() {
    // Alive from 2000 days ago to 500 days ago; pinned until 1500 days ago.
    let key = old_cert(2000 * DAY, 1500 * DAY);
    let day = |ago: Duration| jiff::Timestamp::try_from(now() - ago).unwrap().to_string()[..10].to_owned();
    let until = format!("until = \"{}\"", day(1500 * DAY));
    let late = detached_at(&key, TEXT, now() - 1000 * DAY);
    let said = said(file(&lenient(&key, &until, &key), &late));
    assert!(said.contains("until when its key is pinned"), "{said}");
    let early = detached_at(&key, TEXT, now() - 1800 * DAY);
    assert!(file(&lenient(&key, &until, &key), &early).is_ok());
    let since = format!("since = \"{}\"", day(1500 * DAY));
    assert!(file(&lenient(&key, &since, &key), &early).is_err());
}

#[test]
fn a_revoked_subkey_does_not_come_back_when_its_certificate_expires() {
    let key = old_cert(2000 * DAY, 1500 * DAY);
    let subkey = key.keys().subkeys().next().unwrap();
    let mut signer = key.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let revocation = sequoia_openpgp::cert::SubkeyRevocationBuilder::new()
        .set_reason_for_revocation(ReasonForRevocation::KeySuperseded, b"test")
        .unwrap()
        .set_signature_creation_time(now() - 1000 * DAY)
        .unwrap()
        .build(&mut signer, &key, subkey.key(), None)
        .unwrap();
    let revoked = key.clone().insert_packets(revocation).unwrap().0;
    let signature = detached_at(&key, TEXT, now() - 1800 * DAY);
    assert!(file(&lenient(&key, "", &key), &signature).is_ok());
    let said = said(file(&lenient(&key, "", &revoked), &signature));
    assert!(said.contains("revoked: the subkey that signed"), "{said}");
}

#[test]
fn a_signature_that_is_a_compressed_bomb_is_not_unpacked() {
    use std::io::Write as _;
    // A Compressed Data packet (RFC 9580, section 5.6), old format, of indeterminate length: ZIP of 512 MiB of zeros.
    let mut zip = flate2::write::DeflateEncoder::new(vec![0xa3, 1], flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..512 {
        zip.write_all(&zeros).unwrap();
    }
    let bomb = zip.finish().unwrap();
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let key = cert("key");
    let before = peak_memory();
    assert!(file(&court("archive-signature", 1, &[&key], &[&key]), &bomb).is_err());
    let grown = peak_memory() - before;
    assert!(grown < 256 << 10, "{grown} KiB more");
}

/// The most memory that this process ever had, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
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
