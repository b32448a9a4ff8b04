//! SSH signatures, made by the library and, where it is installed, by OpenSSH itself.
#![allow(clippy::unwrap_used, missing_docs)]

mod world;

use hab_keys::{Certificates, Judge, Policy, Refusal, Verdict, VerifiedFile};
use ssh_key::private::{Ed25519Keypair, KeypairData, PrivateKey};
use ssh_key::{HashAlg, LineEnding};
use world::now;

const TEXT: &[u8] = b"signed\n";

fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&[seed; 32])), "test").unwrap()
}

fn sign(key: &PrivateKey, namespace: &str, bytes: &[u8]) -> Vec<u8> {
    key.sign(namespace, HashAlg::Sha512, bytes).unwrap().to_pem(LineEnding::LF).unwrap().into_bytes()
}

fn policy(fingerprint: &str) -> Policy {
    let text = format!(
        "name = \"test\"\n[require.it]\nkind = \"archive-signature\"\nthreshold = 1\n[[key]]\nfingerprint = \"{fingerprint}\"\n\
         name = \"n\"\nreason = \"r\"\n"
    );
    Policy::parse("test", &text).unwrap()
}

fn judged(policy: &Policy, signature: &[u8], bytes: &[u8]) -> Result<VerifiedFile, Refusal> {
    let none = Certificates::find(policy, &[]).unwrap();
    VerifiedFile::detached("file", bytes, ("file.sig", signature), &Judge::new(policy, &none, now()))
}

#[test]
fn a_signature_by_a_pinned_ssh_key_counts_and_nothing_else_does() {
    let key = key(1);
    let policy = policy(&key.public_key().fingerprint(HashAlg::Sha256).to_string());
    let good = sign(&key, "file", TEXT);
    let seen = judged(&policy, &good, TEXT).unwrap().evidence().signatures.clone();
    assert_eq!((seen[0].verdict.clone(), seen[0].algorithm.as_str()), (Verdict::Good, "ssh-ed25519 sha512"));
    for (signature, bytes, words) in [
        (good.clone(), &b"other\n"[..], "does not fit"),
        (sign(&self::key(2), "file", TEXT), TEXT, "not a pinned key"),
        // A signature for git, or for a login, is not one for a file.
        (sign(&key, "git", TEXT), TEXT, "made for \"git\""),
    ] {
        let said = judged(&policy, &signature, bytes).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
    let mut broken = good;
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    assert!(judged(&policy, &broken, TEXT).is_err());
}

#[test]
fn what_ssh_keygen_signs_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (private, file) = (folder.path().join("key"), folder.path().join("file"));
    std::fs::write(&file, TEXT).unwrap();
    let keygen = |words: &[&str]| std::process::Command::new("ssh-keygen").args(words).output();
    let path = |p: &std::path::Path| p.to_str().unwrap().to_owned();
    if keygen(&["-q", "-t", "ed25519", "-N", "", "-f", &path(&private)]).is_err() {
        return hab_skip::skip(hab_skip::Lack::Program, "no ssh-keygen");
    }
    let signed = keygen(&["-Y", "sign", "-f", &path(&private), "-n", "file", &path(&file)]).unwrap();
    assert!(signed.status.success());
    let listed = String::from_utf8(keygen(&["-l", "-f", &path(&private)]).unwrap().stdout).unwrap();
    let fingerprint = listed.split(' ').nth(1).unwrap();
    let signature = std::fs::read(folder.path().join("file.sig")).unwrap();
    assert!(judged(&policy(fingerprint), &signature, TEXT).is_ok());
}
