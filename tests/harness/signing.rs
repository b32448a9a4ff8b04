//! Makes keys and signatures for tests.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::serialize::stream::{Armorer, Message, Signer};

pub fn cert(name: &str) -> Cert {
    CertBuilder::new()
        .add_userid(name)
        .set_cipher_suite(CipherSuite::Cv25519)
        .set_creation_time(SystemTime::now() - Duration::from_hours(24))
        .add_signing_subkey()
        .generate()
        .unwrap()
        .0
}

pub fn export(cert: &Cert) -> Vec<u8> {
    cert.to_vec().unwrap()
}

fn signer<'a>(message: Message<'a>, cert: &Cert) -> Signer<'a> {
    let policy = sequoia_openpgp::policy::StandardPolicy::new();
    let key = cert.keys().with_policy(&policy, None).for_signing().secret().next().unwrap();
    Signer::new(message, key.key().clone().into_keypair().unwrap()).unwrap()
}

pub fn clearsign(cert: &Cert, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut message = signer(Message::new(&mut out), cert).cleartext().build().unwrap();
    message.write_all(text.as_bytes()).unwrap();
    message.finalize().unwrap();
    out
}

pub fn detached(cert: &Cert, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = sequoia_openpgp::armor::Kind::Signature;
    let armor = Armorer::new(Message::new(&mut out)).kind(kind).build().unwrap();
    let mut message = signer(armor, cert).detached().build().unwrap();
    message.write_all(bytes).unwrap();
    message.finalize().unwrap();
    out
}
