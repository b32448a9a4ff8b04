//! Keys that the tests make, and what they sign.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hab_keys::{Certificates, Judge, Policy, Refusal, VerifiedFile};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::serialize::stream::{Message, Signer};

pub fn now() -> SystemTime {
    SystemTime::now()
}

/// A certificate with a signing subkey, made a day ago, valid for two days.
pub fn cert(name: &str) -> Cert {
    CertBuilder::new()
        .add_userid(name)
        .set_cipher_suite(CipherSuite::Cv25519)
        .set_creation_time(now() - Duration::from_hours(24))
        .set_validity_period(Duration::from_hours(48))
        .add_signing_subkey()
        .generate()
        .unwrap()
        .0
}

fn signer<'a>(message: Message<'a>, cert: &Cert, at: SystemTime) -> Signer<'a> {
    let policy = sequoia_openpgp::policy::StandardPolicy::new();
    let key = cert.keys().with_policy(&policy, at).for_signing().secret().next().unwrap();
    let pair = key.key().clone().into_keypair().unwrap();
    Signer::new(message, pair).unwrap().creation_time(at)
}

pub fn clearsign(cert: &Cert, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut message = signer(Message::new(&mut out), cert, now()).cleartext().build().unwrap();
    message.write_all(text.as_bytes()).unwrap();
    message.finalize().unwrap();
    out
}

pub fn detached(cert: &Cert, bytes: &[u8]) -> Vec<u8> {
    detached_at(cert, bytes, now())
}

/// A signature that says it was made at another time.
pub fn detached_at(cert: &Cert, bytes: &[u8], at: SystemTime) -> Vec<u8> {
    sign(cert, bytes, |signer| signer.creation_time(at))
}

/// A signature with another hash.
pub fn detached_with(cert: &Cert, bytes: &[u8], hash: sequoia_openpgp::types::HashAlgorithm) -> Vec<u8> {
    sign(cert, bytes, |signer| signer.hash_algo(hash).unwrap())
}

/// A certificate whose primary key signs.
pub fn primary_signer() -> Cert {
    let made = now() - Duration::from_hours(24);
    let flags = sequoia_openpgp::types::KeyFlags::empty().set_certification().set_signing();
    CertBuilder::new()
        .add_userid("primary")
        .set_cipher_suite(CipherSuite::Cv25519)
        .set_creation_time(made)
        .set_primary_key_flags(flags)
        .generate()
        .unwrap()
        .0
}

fn sign(cert: &Cert, bytes: &[u8], with: impl FnOnce(Signer<'_>) -> Signer<'_>) -> Vec<u8> {
    use sequoia_openpgp::serialize::stream::Armorer;
    let mut out = Vec::new();
    let armor =
        Armorer::new(Message::new(&mut out)).kind(sequoia_openpgp::armor::Kind::Signature).build().unwrap();
    let mut message = with(signer(armor, cert, now())).detached().build().unwrap();
    message.write_all(bytes).unwrap();
    message.finalize().unwrap();
    out
}

/// A policy that pins `pinned`, and the certificates of `known` as a keyring that was searched.
pub struct Court {
    pub policy: Policy,
    pub certificates: Certificates,
    _folder: tempfile::TempDir,
}

impl Court {
    /// A judge now.
    pub fn judge(&self) -> Judge<'_> {
        self.judge_at(now())
    }

    /// A judge at another time.
    pub fn judge_at(&self, at: SystemTime) -> Judge<'_> {
        Judge::new(&self.policy, &self.certificates, at)
    }
}

pub fn court(kind: &str, threshold: usize, pinned: &[&Cert], known: &[&Cert]) -> Court {
    court_of(policy(kind, threshold, pinned), known)
}

pub fn court_of(policy: Policy, known: &[&Cert]) -> Court {
    let (folder, places) = keyring(known);
    let certificates = Certificates::find(&policy, &places).unwrap();
    Court { policy, certificates, _folder: folder }
}

pub fn policy(kind: &str, threshold: usize, pinned: &[&Cert]) -> Policy {
    let mut text = format!("name = \"test\"\n[require.it]\nkind = \"{kind}\"\nthreshold = {threshold}\n");
    for cert in pinned {
        text.push_str(&format!(
            "[[key]]\nfingerprint = \"{}\"\nname = \"n\"\nreason = \"r\"\n",
            cert.fingerprint()
        ));
    }
    Policy::parse("test", &text).unwrap()
}

pub fn keyring(known: &[&Cert]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = known.iter().flat_map(|c| c.to_vec().unwrap()).collect();
    let path = folder.path().join("keyring.gpg");
    std::fs::write(&path, bytes).unwrap();
    (folder, vec![path])
}

/// What the tests sign.
pub const TEXT: &[u8] = b"the signed bytes\n";
pub const DAY: Duration = Duration::from_hours(24);

/// Judges a detached signature over [`TEXT`].
pub fn file(court: &Court, signature: &[u8]) -> Result<VerifiedFile, Refusal> {
    VerifiedFile::detached("file", TEXT, ("file.asc", signature), &court.judge())
}

/// Why it was refused.
#[track_caller]
pub fn said(result: Result<VerifiedFile, Refusal>) -> String {
    result.unwrap_err().to_string()
}
