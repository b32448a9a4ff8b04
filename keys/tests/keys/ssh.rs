//! SSH signatures, made by the library and, where it is installed, by OpenSSH itself.

use crate::world::now;
use hab_keys::{Certificates, Judge, Policy, Refusal, Verdict, VerifiedFile};
use ssh_key::private::{Ed25519Keypair, KeypairData, PrivateKey};
use ssh_key::public::{KeyData, RsaPublicKey};
use ssh_key::{Algorithm, HashAlg, LineEnding, SshSig};

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

/// What a tool of OpenSSH does; `None` where it is not installed.
fn keygen(words: &[&str]) -> Option<std::process::Output> {
    let done = std::process::Command::new("ssh-keygen").args(words).output();
    done.inspect_err(|_| hab_skip::skip(hab_skip::Lack::Program, "no ssh-keygen")).ok()
}

/// A key of OpenSSH's, by its kind and size: its fingerprint, and its signature over `TEXT`.
fn by_openssh(kind: &[&str]) -> Option<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("file"), TEXT).unwrap();
    keygen(&[&["-q", "-N", "", "-f", &path("key"), "-t"], kind].concat())?;
    let signed = keygen(&["-Y", "sign", "-f", &path("key"), "-n", "file", &path("file")])?;
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let listed = String::from_utf8(keygen(&["-l", "-f", &path("key")])?.stdout).unwrap();
    Some((listed.split(' ').nth(1).unwrap().to_owned(), std::fs::read(path("file.sig")).unwrap()))
}

#[test]
fn what_ssh_keygen_signs_is_accepted_whatever_the_key() {
    let kinds: [&[&str]; 5] = [
        &["ed25519"],
        &["rsa", "-b", "2048"],
        &["ecdsa", "-b", "256"],
        &["ecdsa", "-b", "384"],
        &["ecdsa", "-b", "521"],
    ];
    for kind in kinds {
        let Some((fingerprint, signature)) = by_openssh(kind) else { return };
        let policy = policy(&fingerprint);
        let seen = judged(&policy, &signature, TEXT).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        assert_eq!(seen.evidence().signatures[0].verdict, Verdict::Good, "{kind:?}");
        let other = judged(&policy, &signature, b"other\n").unwrap_err().to_string();
        assert!(other.contains("does not fit"), "{kind:?}: {other}");
        // Any byte of the signature itself.
        let signature = SshSig::from_pem(&signature).unwrap();
        let mut raw = signature.signature_bytes().to_vec();
        let end = raw.len() - 1;
        raw[end] ^= 1;
        let Ok(raw) = ssh_key::Signature::new(signature.algorithm(), raw) else { continue };
        let public = signature.public_key().clone();
        let broken =
            SshSig::new(public, "file", signature.hash_alg(), raw).unwrap().to_pem(LineEnding::LF).unwrap();
        assert!(judged(&policy, broken.as_bytes(), TEXT).is_err(), "{kind:?}");
    }
}

#[test]
fn a_short_rsa_key_and_sha1_are_too_weak() {
    // OpenSSH makes neither any more, so they are made here.
    let sign = |bits: u32, algorithm: Algorithm| {
        let key = openssl::rsa::Rsa::generate(bits).unwrap();
        let number = |n: &openssl::bn::BigNumRef| ssh_key::Mpint::from_positive_bytes(&n.to_vec());
        let public = KeyData::Rsa(RsaPublicKey::new(number(key.e()), number(key.n())).unwrap());
        let message = SshSig::signed_data("file", HashAlg::Sha512, TEXT).unwrap();
        let pkey = openssl::pkey::PKey::from_rsa(key).unwrap();
        let digest = match algorithm {
            Algorithm::Rsa { hash: Some(_) } => openssl::hash::MessageDigest::sha512(),
            _ => openssl::hash::MessageDigest::sha1(),
        };
        let raw = openssl::sign::Signer::new(digest, &pkey).unwrap().sign_oneshot_to_vec(&message).unwrap();
        let raw = ssh_key::Signature::new(algorithm, raw).unwrap();
        let fingerprint = public.fingerprint(HashAlg::Sha256).to_string();
        let signature = SshSig::new(public, "file", HashAlg::Sha512, raw).unwrap();
        (policy(&fingerprint), signature.to_pem(LineEnding::LF).unwrap().into_bytes())
    };
    let (policy, signature) = sign(2048, Algorithm::Rsa { hash: Some(HashAlg::Sha512) });
    assert!(judged(&policy, &signature, TEXT).is_ok());
    let (policy, signature) = sign(1024, Algorithm::Rsa { hash: Some(HashAlg::Sha512) });
    assert!(judged(&policy, &signature, TEXT).unwrap_err().to_string().contains("fewer than 2048 bits"));
    let (policy, signature) = sign(2048, Algorithm::Rsa { hash: None });
    assert!(judged(&policy, &signature, TEXT).unwrap_err().to_string().contains("too weak"));
}
