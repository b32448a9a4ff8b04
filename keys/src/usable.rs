//! Decides whether a certificate can be judged at all: whether its self-signatures use algorithms that this program
//! knows and trusts, not whether it is good.

use sequoia_openpgp as openpgp;

use openpgp::crypto::mpi::PublicKey;
use openpgp::policy::StandardPolicy;
use openpgp::types::{Curve, HashAlgorithm};
use openpgp::{Cert, Fingerprint};

use crate::policy::KeyId;
use crate::{Judge, Verdict};

/// The curve of Bitcoin's own signatures, 1.3.132.0.10 (SEC 2, appendix A.2).
const SECP256K1: [u8; 5] = [0x2b, 0x81, 0x04, 0x00, 0x0a];

/// Why this program cannot verify signatures by the primary key, which binds all others, or by the key `signer`.
pub(crate) fn unknown_algorithm(cert: &Cert, signer: &Fingerprint) -> Option<String> {
    let primary = cert.fingerprint();
    cert.keys().find_map(|ka| {
        let key = ka.key();
        let whose = match key.fingerprint() {
            this if this == primary => "its primary key",
            this if this == *signer => "the subkey that signed",
            _ => return None,
        };
        match key.mpis() {
            PublicKey::ECDSA { curve, .. } | PublicKey::EdDSA { curve, .. } if !curve.is_supported() => {
                Some(format!("{whose} is on {}, which this program does not verify", named(curve)))
            }
            PublicKey::ECDSA { .. } | PublicKey::EdDSA { .. } => None,
            _ if key.pk_algo().is_supported() => None,
            _ => Some(format!("{whose} is of kind {}, which this program does not verify", key.pk_algo())),
        }
    })
}

fn named(curve: &Curve) -> String {
    match curve {
        Curve::Unknown(oid) if **oid == SECP256K1 => "curve secp256k1".to_owned(),
        Curve::Unknown(oid) => format!("an unknown curve (object identifier {})", hex::encode(oid)),
        known => format!("curve {known}"),
    }
}

/// The verdict if all self-signatures of a certificate's primary key use a hash that is too weak.
pub(crate) fn only_weak(cert: &Cert) -> Option<Verdict> {
    let hash = weak_self(cert)?;
    Some(Verdict::Weak(format!(
        "its certificate cannot be judged: its key and user ids are signed with {hash} only (a [[weak-certificate]] \
         in the policy can make an exception)"
    )))
}

/// The weak hash in all self-signatures of a certificate's primary key and user ids.
pub(crate) fn weak_self(cert: &Cert) -> Option<HashAlgorithm> {
    let own = cert.primary_key().self_signatures();
    let hashes: Vec<HashAlgorithm> =
        own.chain(cert.userids().flat_map(|id| id.self_signatures())).map(|sig| sig.hash_algo()).collect();
    let weak = |hash: &HashAlgorithm| {
        matches!(hash, HashAlgorithm::SHA1 | HashAlgorithm::MD5 | HashAlgorithm::RipeMD)
    };
    if hashes.iter().all(weak) { hashes.first().copied() } else { None }
}

/// The sequoia policy for judging `cert` when `signer` signed: `otherwise`, or one that accepts SHA-1 if the house's
/// policy makes an exception for this certificate and its primary key signed.
pub(crate) fn policy_for<'p>(
    judge: &Judge<'_>,
    cert: &Cert,
    signer: &Fingerprint,
    otherwise: &StandardPolicy<'p>,
) -> StandardPolicy<'p> {
    let now = jiff::Timestamp::try_from(judge.now()).unwrap_or(jiff::Timestamp::MAX);
    let id = KeyId::OpenPgp(cert.fingerprint());
    if *signer == cert.fingerprint() && judge.policy.weak_certificate(&id, now).is_some() {
        return believing_sha1();
    }
    otherwise.clone()
}

/// The standard policy, with SHA-1 accepted.
pub(crate) fn believing_sha1<'p>() -> StandardPolicy<'p> {
    let mut policy = StandardPolicy::new();
    policy.accept_hash(HashAlgorithm::SHA1);
    policy
}
