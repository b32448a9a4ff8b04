//! Certificates from strangers: what is taken of an answer, and what is never lost.

use std::time::Duration;

use crate::world::{DAY, TEXT, cert, court, detached, now, policy};
use hab_keys::{Certificates, KeyId, KeyState, Policy};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::{CertBuilder, CertRevocationBuilder, CipherSuite};
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::packet::{Packet, UserID};
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::types::{ReasonForRevocation, SignatureType};

fn export(cert: &Cert) -> Vec<u8> {
    cert.to_vec().unwrap()
}

fn answered(bytes: &[u8], wanted: &Cert) -> Certificates {
    let fingerprint = wanted.fingerprint();
    Certificates::answered(bytes, |f| *f == fingerprint)
}

fn revoked(cert: &Cert) -> Cert {
    let mut signer = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let revocation = CertRevocationBuilder::new()
        .set_reason_for_revocation(ReasonForRevocation::KeyCompromised, b"stolen")
        .unwrap()
        .build(&mut signer, cert, None)
        .unwrap();
    cert.clone().insert_packets(revocation).unwrap().0
}

fn standing(certificates: &Certificates, cert: &Cert) -> KeyState {
    KeyState::of(&KeyId::OpenPgp(cert.fingerprint()), certificates, now(), None)
}

/// A certificate that ends so long from now.
fn ending(cert: &Cert, from_now: Duration) -> Cert {
    let policy = sequoia_openpgp::policy::StandardPolicy::new();
    let mut signer = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let packets = cert.set_expiration_time(&policy, None, &mut signer, Some(now() + from_now)).unwrap();
    cert.clone().insert_packets(packets).unwrap().0
}

#[test]
fn an_answer_with_another_key_gives_nothing() {
    let (wanted, other) = (cert("wanted"), cert("wanted"));
    assert!(answered(&export(&other), &wanted).is_empty());
    assert!(answered(b"no certificate", &wanted).is_empty());
    assert!(answered(b"", &wanted).is_empty());
    // A signature is no certificate, and a certificate that is cut is not that one either.
    assert!(answered(&detached(&wanted, TEXT), &wanted).is_empty());
    assert!(answered(&export(&wanted)[..20], &wanted).is_empty());
    let both = [export(&other), export(&wanted)].concat();
    let found = answered(&both, &wanted);
    assert_eq!(found.iter().map(Cert::fingerprint).collect::<Vec<_>>(), [wanted.fingerprint()]);
}

#[test]
fn what_others_added_to_a_certificate_is_not_taken() {
    let (owner, stranger) = (cert("owner"), cert("stranger"));
    let mut signer =
        stranger.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let id = owner.userids().next().unwrap().userid().clone();
    let mut flood: Vec<Packet> = Vec::new();
    for _ in 0..50 {
        let certified = SignatureBuilder::new(SignatureType::GenericCertification)
            .sign_userid_binding(&mut signer, owner.primary_key().key(), &id)
            .unwrap();
        flood.push(certified.into());
    }
    let mut flooded = owner.clone().insert_packets(flood).unwrap().0;
    // A user id of a stranger's choice, and a stranger's subkey, which the owner never signed.
    let evil = UserID::from("\u{1b}[2J\u{202e}evil <evil@example.org>");
    let evil_signature = SignatureBuilder::new(SignatureType::PositiveCertification)
        .sign_userid_binding(&mut signer, owner.primary_key().key(), &evil)
        .unwrap();
    flooded = flooded.insert_packets(vec![Packet::from(evil), evil_signature.into()]).unwrap().0;
    let packets = stranger.clone().into_packets();
    let subkey: Vec<_> =
        packets.skip_while(|p| !matches!(p, Packet::PublicSubkey(_) | Packet::SecretSubkey(_))).collect();
    flooded = flooded.insert_packets(subkey).unwrap().0;
    let bytes = export(&flooded);
    let found = answered(&bytes, &owner);
    let slim = found.iter().next().unwrap();
    assert!(export(slim).len() * 2 < bytes.len(), "{} of {}", export(slim).len(), bytes.len());
    assert_eq!((slim.userids().count(), slim.keys().count()), (1, 2));
    assert_eq!(slim.userids().next().unwrap().certifications().count(), 0);
    // It is the owner's own, and as good as before.
    assert_eq!(*slim, owner.clone().strip_secret_key_material());
    assert!(matches!(standing(&found, &owner), KeyState::Alive { .. }));
    assert!(found.addresses(&owner.fingerprint()).is_empty());
}

#[test]
fn a_flood_of_parts_that_nobody_signed_is_left_at_the_door() {
    let owner = cert("owner");
    let (mut before, mut after): (Vec<Packet>, Vec<Packet>) = (Vec::new(), Vec::new());
    for packet in owner.clone().strip_secret_key_material().into_packets() {
        let early = before.is_empty();
        if early { before.push(packet) } else { after.push(packet) }
    }
    // Each of these signatures, which say that they are the owner's, would be tried over each of these names.
    let own = after.iter().find(|p| matches!(p, Packet::Signature(_))).unwrap().clone();
    let junk = (0..20_000).flat_map(|n| [Packet::from(UserID::from(format!("junk {n}"))), own.clone()]);
    let all: Vec<Packet> = before.into_iter().chain(after).chain(junk).collect();
    let mut bytes = Vec::new();
    for packet in all {
        bytes.extend(packet.to_vec().unwrap());
    }
    assert!(bytes.len() > 2 << 20, "{}", bytes.len());
    let found = answered(&bytes, &owner);
    assert_eq!(*found.iter().next().unwrap(), owner.clone().strip_secret_key_material());
}

#[test]
fn a_secret_key_in_an_answer_is_not_kept() {
    let key = cert("careless");
    let found = answered(&key.as_tsk().to_vec().unwrap(), &key);
    assert!(!found.iter().next().unwrap().is_tsk());
}

#[test]
fn an_answer_that_leaves_a_revocation_out_does_not_take_it_back() {
    let key = cert("key");
    let folder = tempfile::tempdir().unwrap();
    let kept = |found: &Certificates| {
        found.keep_in(folder.path()).unwrap();
        Certificates::read(&[folder.path().to_owned()], |_| true).unwrap()
    };
    let there = kept(&answered(&export(&revoked(&key)), &key));
    assert_eq!(standing(&there, &key), KeyState::Revoked);
    let there = kept(&answered(&export(&key), &key));
    assert_eq!(standing(&there, &key), KeyState::Revoked);
    // In memory too.
    let mut merged = answered(&export(&revoked(&key)), &key);
    merged.merge(&answered(&export(&key), &key));
    assert_eq!(standing(&merged, &key), KeyState::Revoked);
    assert!(merged.news(&answered(&export(&key), &key)).is_empty());
}

#[test]
fn a_certificate_that_its_owner_extended_is_better_and_the_older_one_takes_nothing_away() {
    // Valid from two days ago to one day ago.
    let old = CertBuilder::new()
        .add_userid("key")
        .set_cipher_suite(CipherSuite::Cv25519)
        .set_creation_time(now() - 2 * DAY)
        .set_validity_period(DAY)
        .set_primary_key_flags(sequoia_openpgp::types::KeyFlags::empty().set_certification().set_signing())
        .generate()
        .unwrap()
        .0;
    let new = ending(&old, 100 * DAY);
    for order in [[&old, &new], [&new, &old]] {
        let mut found = answered(&export(order[0]), &old);
        found.merge(&answered(&export(order[1]), &old));
        assert!(matches!(standing(&found, &old), KeyState::Alive { expires: Some(_), .. }));
    }
    let here = answered(&export(&old), &old);
    assert!(matches!(standing(&here, &old), KeyState::Expired { .. }));
    assert_eq!(here.news(&answered(&export(&new), &old)), [old.fingerprint()]);
}

#[test]
fn two_who_keep_at_the_same_time_lose_nothing() {
    let key = cert("key");
    let folder = tempfile::tempdir().unwrap();
    let versions = [key.clone(), revoked(&key), ending(&key, 100 * DAY), ending(&key, 200 * DAY)];
    for _ in 0..10 {
        std::thread::scope(|scope| {
            for version in &versions {
                let found = answered(&export(version), &key);
                let folder = folder.path();
                scope.spawn(move || found.keep_in(folder).unwrap());
            }
        });
        let there = Certificates::read(&[folder.path().to_owned()], |_| true).unwrap();
        assert_eq!(standing(&there, &key), KeyState::Revoked);
        let whole = there.iter().next().unwrap();
        assert!(versions.iter().all(|v| there.news(&answered(&export(v), &key)).is_empty()), "{whole:?}");
        std::fs::remove_file(folder.path().join(format!("{:X}.pgp", key.fingerprint()))).unwrap();
    }
}

#[test]
fn a_kept_certificate_that_does_not_read_is_not_written_over() {
    let key = cert("key");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{:X}.pgp", key.fingerprint()));
    std::fs::write(&path, "damaged").unwrap();
    let error = answered(&export(&key), &key).keep_in(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is not a certificate") && error.contains("move it away"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"damaged");
}

#[test]
fn the_addresses_of_a_certificate_are_those_that_its_owner_signed() {
    let key = CertBuilder::new()
        .add_userid("A <a@example.org>")
        .add_userid("B <b@localhost>")
        .add_userid("C <c@example.org:8080>")
        .add_userid("no address")
        .set_cipher_suite(CipherSuite::Cv25519)
        .generate()
        .unwrap()
        .0;
    let found = answered(&export(&key), &key);
    assert_eq!(found.addresses(&key.fingerprint()), ["a@example.org"]);
}

#[test]
fn a_subkey_of_a_missing_certificate_is_not_called_a_stranger() {
    let (here, missing) = (cert("here"), cert("missing"));
    let both = court("archive-signature", 1, &[&here, &missing], &[&here]);
    let said = crate::world::said(crate::world::file(&both, &detached(&missing, TEXT)));
    assert!(!said.contains("not a pinned key"), "{said}");
    assert!(
        said.contains("a key that no certificate here has; the certificate of n is missing, and may have it"),
        "{said}"
    );
    // Where no certificate is missing, it is one.
    let one = court("archive-signature", 1, &[&here], &[&here]);
    let said = crate::world::said(crate::world::file(&one, &detached(&missing, TEXT)));
    assert!(said.contains("not a pinned key"), "{said}");
    // A refusal for want of a certificate says what to do.
    let refusal = crate::world::file(&both, &detached(&missing, TEXT)).unwrap_err();
    assert!(refusal.hint().unwrap().contains("hab-build keys refresh test"), "{:?}", refusal.hint());
    let refusal = crate::world::file(&one, &detached(&missing, TEXT)).unwrap_err();
    assert_eq!(refusal.hint(), None);
}

#[test]
fn a_policy_names_places_for_certificates_and_nothing_that_leads_elsewhere() {
    let key = cert("key");
    let with = |more: &str| Policy::parse("test", &format!("{}{more}", policy("tag", 1, &[&key]).text()));
    let good = with("[[certificates]]\nproject = \"guix.sigs\"\nfolder = \"a/builder-keys\"\n").unwrap();
    assert_eq!(good.certificate_folders()[0].folder, "a/builder-keys");
    assert!(good.how_to_find().contains("hab-build mirror sync guix.sigs"));
    for (project, folder) in [
        ("../x", "a"),
        ("a/b", "a"),
        ("", "a"),
        ("a", ""),
        ("a", "../b"),
        ("a", "/b"),
        ("a", "b//c"),
        ("a", "b/."),
    ] {
        let text = format!("[[certificates]]\nproject = {project:?}\nfolder = {folder:?}\n");
        assert!(with(&text).is_err(), "{text}");
    }
    for (addresses, good) in [("a@example.org", true), ("a@localhost", false), ("a@example.org/x", false)] {
        let text =
            with("").unwrap().text().replace("reason", &format!("addresses = [{addresses:?}]\nreason"));
        assert_eq!(Policy::parse("test", &text).is_ok(), good, "{addresses}");
    }
}

#[test]
fn a_good_signature_of_a_key_outside_the_group_says_so() {
    let (member, outsider) = (cert("member"), cert("outsider"));
    let text = policy("archive-signature", 1, &[&member, &outsider]).text().to_owned();
    let text = text.replace("threshold = 1", "threshold = 1\ngroup = \"maintainers\"");
    let text = text.replacen("reason = \"r\"", "reason = \"r\"\ngroups = [\"maintainers\"]", 1);
    let court = crate::world::court_of(Policy::parse("test", &text).unwrap(), &[&member, &outsider]);
    assert!(crate::world::file(&court, &detached(&member, TEXT)).is_ok());
    let said = crate::world::said(crate::world::file(&court, &detached(&outsider, TEXT)));
    assert!(said.contains("good, but outside group maintainers"), "{said}");
}

#[test]
fn a_key_id_names_the_certificate_that_is_missing_and_proves_nothing() {
    let (here, missing) = (cert("here"), crate::world::primary_signer());
    let court = court("archive-signature", 1, &[&here, &missing], &[&here]);
    // Old programs name no whole fingerprint.
    let mut signer = missing.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let builder = SignatureBuilder::new(SignatureType::Binary).set_issuer(missing.keyid()).unwrap();
    let signature = builder.sign_message(&mut signer, TEXT).unwrap();
    let refused = crate::world::file(&court, &Packet::from(signature).to_vec().unwrap());
    assert!(crate::world::said(refused).contains("pinned, certificate missing"));
}
