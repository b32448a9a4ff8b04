//! Keys that expire, are taken back or are pinned for a while, and signatures that lie about when they were made.

use std::time::Duration;

use crate::world::{Court, DAY, TEXT, cert, court, court_of, detached, detached_at, file, now, policy, said};
use hab_keys::{Policy, Verdict, VerifiedFile};
use sequoia_openpgp::Cert;
use sequoia_openpgp::types::ReasonForRevocation;

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
fn a_signature_older_than_what_its_expired_certificate_still_says_counts_by_its_own_word() {
    use sequoia_openpgp::packet::signature::SignatureBuilder;
    use sequoia_openpgp::packet::{Packet, UserID};
    use sequoia_openpgp::types::{KeyFlags, SignatureType};
    // Made ten days ago and extended five days ago until yesterday; exports keep only what was said last.
    let flags = KeyFlags::empty().set_certification().set_signing();
    let builder = sequoia_openpgp::cert::CertBuilder::new().set_creation_time(now() - 10 * DAY);
    let key = builder.set_primary_key_flags(flags.clone()).generate().unwrap().0;
    let secret = key.primary_key().key().clone().parts_into_secret().unwrap();
    let mut signer = secret.clone().into_keypair().unwrap();
    let id = UserID::from("key");
    let binding = SignatureBuilder::new(SignatureType::PositiveCertification)
        .set_signature_creation_time(now() - 5 * DAY)
        .unwrap()
        .set_key_validity_period(9 * DAY)
        .unwrap()
        .set_key_flags(flags)
        .unwrap()
        .sign_userid_binding(&mut signer, key.primary_key().key(), &id)
        .unwrap();
    let packets = vec![Packet::from(secret), id.into(), binding.into()];
    let key = Cert::from_packets(packets.into_iter()).unwrap();
    let made = |ago: Duration| {
        let mut signer = signer.clone();
        let builder =
            SignatureBuilder::new(SignatureType::Binary).set_signature_creation_time(now() - ago).unwrap();
        let signature = builder.sign_message(&mut signer, TEXT).unwrap();
        sequoia_openpgp::serialize::SerializeInto::to_vec(&Packet::from(signature)).unwrap()
    };
    let lenient = lenient(&key, "", &key);
    let seen = file(&lenient, &made(7 * DAY)).unwrap().evidence().signatures[0].verdict.clone();
    assert!(matches!(seen, Verdict::ExpiredSince(_)), "{seen}");
    assert!(file(&lenient, &made(3 * DAY)).is_ok());
    // Before the key was there, and after it had expired.
    assert!(file(&lenient, &made(11 * DAY)).is_err());
    assert!(file(&lenient, &made(DAY / 2)).is_err());
    let strict = court("archive-signature", 1, &[&key], &[&key]);
    assert!(said(file(&strict, &made(7 * DAY))).contains("keys that expired since do not count here"));
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
