//! Certificates that cannot be judged, and the exception that a policy can make for one.

use crate::world::{Court, DAY, TEXT, court_of, detached, file, now, policy, said};
use hab_keys::{Certificates, KeyId, KeyState, Policy};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertBuilder;
use sequoia_openpgp::crypto::mpi;
use sequoia_openpgp::packet::key::{Key4, PrimaryRole, PublicParts};
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::packet::signature::subpacket::{Subpacket, SubpacketValue};
use sequoia_openpgp::packet::{Key, Packet, UserID};
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::types::{Curve, HashAlgorithm, KeyFlags, PublicKeyAlgorithm, SignatureType};

/// A certificate of long ago: all that it says of itself is signed with SHA-1.
fn sha1_cert() -> Cert {
    let made = now() - DAY;
    let flags = KeyFlags::empty().set_certification().set_signing();
    let key =
        CertBuilder::new().set_creation_time(made).set_primary_key_flags(flags.clone()).generate().unwrap().0;
    let mut signer = key.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let id = UserID::from("old");
    let binding = SignatureBuilder::new(SignatureType::PositiveCertification)
        .set_hash_algo(HashAlgorithm::SHA1)
        .set_signature_creation_time(made)
        .unwrap()
        .set_key_flags(flags)
        .unwrap()
        .sign_userid_binding(&mut signer, key.primary_key().key(), &id)
        .unwrap();
    let packets: Vec<Packet> = vec![
        Packet::from(key.primary_key().key().clone().parts_into_secret().unwrap()),
        id.into(),
        binding.into(),
    ];
    Cert::from_packets(packets.into_iter()).unwrap()
}

/// What the tests sign, by the primary key itself.
fn by_primary(cert: &Cert) -> Vec<u8> {
    let signer = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let mut signer = signer;
    let signature = SignatureBuilder::new(SignatureType::Binary).sign_message(&mut signer, TEXT).unwrap();
    Packet::from(signature).to_vec().unwrap()
}

fn excepted(key: &Cert, until: &str) -> Court {
    let exception = format!(
        "[[weak-certificate]]\nfingerprint = \"{}\"\nuntil = \"{until}\"\nreason = \"r\"\n",
        key.fingerprint()
    );
    let text = format!("{}{exception}", policy("archive-signature", 1, &[key]).text());
    court_of(Policy::parse("test", &text).unwrap(), &[key])
}

#[test]
fn a_certificate_that_signs_itself_with_sha1_alone_says_so_and_not_another_fault() {
    let key = sha1_cert();
    let court = court_of(policy("archive-signature", 1, &[&key]), &[&key]);
    let said = said(file(&court, &by_primary(&key)));
    assert!(said.contains("its key and user ids are signed with SHA1"), "{said}");
    let id = KeyId::OpenPgp(key.fingerprint());
    let standing = KeyState::of(&id, &court.certificates, now(), Some(&court.policy)).to_string();
    assert_eq!(standing, "unusable: its key and user ids are signed with SHA1 only");
}

#[test]
fn an_exception_for_a_certificate_has_a_reason_and_an_end() {
    let key = sha1_cert();
    assert!(file(&excepted(&key, "2120-01-01"), &by_primary(&key)).is_ok());
    assert!(file(&excepted(&key, "2020-01-01"), &by_primary(&key)).is_err());
    let court = excepted(&key, "2120-01-01");
    let id = KeyId::OpenPgp(key.fingerprint());
    let standing = KeyState::of(&id, &court.certificates, now(), Some(&court.policy)).to_string();
    assert!(standing.contains("by an exception of the policy until 2120-01-01"), "{standing}");
    // Another certificate gains nothing by it, and the policy says so when it is read.
    let text = court.policy.text().replacen(&key.fingerprint().to_string(), &"A".repeat(40), 1);
    assert!(Policy::parse("test", &text).unwrap_err().to_string().contains("which is not pinned"));
    let text = court.policy.text().replace("reason = \"r\"\n", "reason = \" \"\n");
    assert!(Policy::parse("test", &text).is_err());
    // A signature with SHA-1 is still none.
    let mut signer = key.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let weak = SignatureBuilder::new(SignatureType::Binary).set_hash_algo(HashAlgorithm::SHA1);
    let weak = Packet::from(weak.sign_message(&mut signer, TEXT).unwrap()).to_vec().unwrap();
    assert!(said(file(&court, &weak)).contains("too weak"));
}

#[test]
fn an_exception_for_a_certificate_does_not_extend_to_its_subkeys() {
    // A subkey that is bound with SHA-1 is what a collision could forge.
    let key = sha1_cert();
    let other = crate::world::cert("other");
    let subkey = other.keys().subkeys().next().unwrap().key().clone().parts_into_secret().unwrap();
    let mut primary = key.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let mut back = subkey.clone().into_keypair().unwrap();
    let backsig = SignatureBuilder::new(SignatureType::PrimaryKeyBinding)
        .set_signature_creation_time(now() - DAY / 2)
        .unwrap()
        .sign_primary_key_binding(&mut back, key.primary_key().key(), &subkey)
        .unwrap();
    let binding = SignatureBuilder::new(SignatureType::SubkeyBinding)
        .set_hash_algo(HashAlgorithm::SHA1)
        .set_signature_creation_time(now() - DAY / 2)
        .unwrap()
        .set_key_flags(KeyFlags::empty().set_signing())
        .unwrap()
        .set_embedded_signature(backsig)
        .unwrap()
        .sign_subkey_binding(&mut primary, key.primary_key().key(), &subkey)
        .unwrap();
    let key = key.insert_packets(vec![Packet::from(subkey.clone()), binding.into()]).unwrap().0;
    let court = excepted(&key, "2120-01-01");
    assert!(file(&court, &by_primary(&key)).is_ok());
    let mut signer = subkey.into_keypair().unwrap();
    let signature = SignatureBuilder::new(SignatureType::Binary).sign_message(&mut signer, TEXT).unwrap();
    let said = said(file(&court, &Packet::from(signature).to_vec().unwrap()));
    assert!(said.contains("signed with SHA1"), "{said}");
}

/// A certificate whose primary key is on Bitcoin's own curve; its signatures cannot be verified here, nor made.
fn secp256k1_cert() -> Cert {
    let mut point = vec![4];
    point.extend([7; 64]);
    let oid = [0x2b, 0x81, 0x04, 0x00, 0x0a];
    let mpis = mpi::PublicKey::ECDSA { curve: Curve::Unknown(oid.to_vec().into()), q: mpi::MPI::new(&point) };
    let key: Key4<PublicParts, PrimaryRole> =
        Key4::new(now() - DAY, PublicKeyAlgorithm::ECDSA, mpis).unwrap();
    let packets: Vec<Packet> = vec![Packet::from(Key::from(key)), UserID::from("curve").into()];
    Cert::from_packets(packets.into_iter()).unwrap()
}

#[test]
fn a_certificate_on_curve_secp256k1_is_named_as_what_it_is() {
    let key = secp256k1_cert();
    let court = court_of(policy("archive-signature", 1, &[&key]), &[&key]);
    let id = KeyId::OpenPgp(key.fingerprint());
    let standing = KeyState::of(&id, &court.certificates, now(), None).to_string();
    assert!(standing.contains("its primary key is on curve secp256k1"), "{standing}");
    // Something that says it is signed by it.
    let armored = detached(&crate::world::cert("any"), TEXT);
    let pile = sequoia_openpgp::PacketPile::from_bytes(&armored).unwrap();
    let Some(Packet::Signature(mut signature)) = pile.into_children().next() else { panic!() };
    let issuer = SubpacketValue::IssuerFingerprint(key.fingerprint());
    signature.unhashed_area_mut().clear();
    signature.unhashed_area_mut().add(Subpacket::new(issuer, false).unwrap()).unwrap();
    let said = said(file(&court, &Packet::from(signature).to_vec().unwrap()));
    assert!(said.contains("cannot be judged: its primary key is on curve secp256k1"), "{said}");
    // What a stranger answers about it is taken all the same, so that it is not looked for again and again.
    let fingerprint = key.fingerprint();
    let found = Certificates::answered(&key.to_vec().unwrap(), |f| *f == fingerprint);
    assert_eq!(found.iter().count(), 1);
}
