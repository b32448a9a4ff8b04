//! Judges SSH signatures (OpenSSH's PROTOCOL.sshsig), which `git tag -s` makes with `gpg.format=ssh`.
//!
//! A signature carries its public key, so no certificate is needed: the key's hash is pinned or it is not. ssh-key
//! verifies Ed25519; OpenSSL, which is linked already, verifies RSA and ECDSA.

use hab_oci::shown;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Public};
use openssl::rsa::Rsa;
use openssl::sha::sha256;
use openssl::sign::Verifier;
use ssh_key::public::{KeyData, RsaPublicKey};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey, SshSig};

use crate::judge::{Judge, Moment, Signed};
use crate::policy::KeyId;
use crate::{SignatureSeen, Verdict};

/// The fewest bits of an RSA key; sequoia's standard policy demands as many of OpenPGP keys.
const RSA_BITS: u32 = 2048;
/// The flag in a security key's signature that says that somebody touched the key (WebAuthn, section 6.1, flag UP).
const TOUCHED: u8 = 1;
/// The bytes that a security key adds after its signature: flags and a counter.
const TRAILER: usize = 5;

/// Judges one armored signature over `bytes`.
pub(crate) fn judge(
    judge: &Judge<'_>,
    moment: &Moment,
    signed: Signed,
    block: &[u8],
    bytes: &[u8],
) -> SignatureSeen {
    let signature = match SshSig::from_pem(block) {
        Ok(signature) => signature,
        Err(e) => {
            let verdict = Verdict::Bad(format!("it cannot be read: {e}"));
            return moment.seen("unknown issuer".to_owned(), None, None, "ssh".to_owned(), verdict);
        }
    };
    let key = signature.public_key().fingerprint(HashAlg::Sha256).to_string();
    let pin = key.parse().ok().and_then(|id: KeyId| judge.policy.pin(&id));
    let namespace = match signed {
        Signed::Git => "git",
        Signed::File => "file",
    };
    let verdict = match pin {
        None => Verdict::UnknownKey,
        Some(_) if signature.namespace() != namespace => {
            Verdict::Bad(format!("made for {:?}, not for {namespace:?}", shown(signature.namespace())))
        }
        Some(pin) => match verify(&signature, namespace, bytes) {
            Ok(()) => moment.within(pin, None).unwrap_or(Verdict::Good),
            Err(verdict) => verdict,
        },
    };
    let algorithm = format!("{} {}", signature.algorithm(), signature.hash_alg());
    moment.seen(key, pin, None, algorithm, verdict)
}

fn verify(signature: &SshSig, namespace: &str, bytes: &[u8]) -> Result<(), Verdict> {
    let unfit = |why: &dyn std::fmt::Display| Verdict::Bad(format!("it does not fit the bytes: {why}"));
    let message = SshSig::signed_data(namespace, signature.hash_alg(), bytes).map_err(|e| unfit(&e))?;
    let raw = signature.signature_bytes();
    let fits = match signature.public_key() {
        KeyData::Ed25519(_) => {
            let public = PublicKey::from(signature.public_key().clone());
            return public.verify(namespace, bytes, signature).map_err(|e| unfit(&e));
        }
        KeyData::SkEd25519(_) => {
            touched(raw)?;
            let public = PublicKey::from(signature.public_key().clone());
            return public.verify(namespace, bytes, signature).map_err(|e| unfit(&e));
        }
        KeyData::Rsa(key) => rsa(key, &signature.algorithm(), &message, raw)?,
        KeyData::Ecdsa(key) => ecdsa(key.curve(), key.as_sec1_bytes(), &message, raw),
        KeyData::SkEcdsaSha2NistP256(key) => {
            let (raw, trailer) = touched(raw)?;
            let message = [&sha256(key.application().as_bytes())[..], trailer, &sha256(&message)].concat();
            ecdsa(EcdsaCurve::NistP256, key.ec_point().as_bytes(), &message, raw)
        }
        other => {
            let kind = other.algorithm();
            return Err(Verdict::BadKey(format!("keys of kind {kind} are not verified by this program")));
        }
    };
    match fits {
        Ok(true) => Ok(()),
        Ok(false) => Err(unfit(&"another key or other bytes")),
        Err(e) => Err(unfit(&e)),
    }
}

/// Splits a security key's signature from its flags and counter. The key must have been touched, as OpenSSH demands
/// too.
fn touched(raw: &[u8]) -> Result<(&[u8], &[u8]), Verdict> {
    let at = raw.len().checked_sub(TRAILER);
    let (signature, trailer) =
        at.map(|at| raw.split_at(at)).ok_or_else(|| Verdict::Bad("it is too short".to_owned()))?;
    if trailer[0] & TOUCHED == 0 {
        return Err(Verdict::Bad("its security key was not touched for it".to_owned()));
    }
    Ok((signature, trailer))
}

/// Verifies RSA with PKCS#1 v1.5 (RFC 8332). Refuses SHA-1, which the name ssh-rsa stands for.
fn rsa(
    key: &RsaPublicKey,
    algorithm: &Algorithm,
    message: &[u8],
    raw: &[u8],
) -> Result<Result<bool, ErrorStack>, Verdict> {
    let hash = match algorithm {
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) } => MessageDigest::sha256(),
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) } => MessageDigest::sha512(),
        other => return Err(Verdict::Weak(format!("an RSA key with a signature of kind {other}"))),
    };
    let verified = || -> Result<Option<bool>, ErrorStack> {
        let modulus = BigNum::from_slice(key.n().as_positive_bytes().unwrap_or_default())?;
        let exponent = BigNum::from_slice(key.e().as_positive_bytes().unwrap_or_default())?;
        if u32::try_from(modulus.num_bits()).unwrap_or(0) < RSA_BITS {
            return Ok(None);
        }
        let key = PKey::from_rsa(Rsa::from_public_components(modulus, exponent)?)?;
        // Leading zeros may have been left out.
        let missing = key.size().saturating_sub(raw.len());
        let padded = [&vec![0; missing][..], raw].concat();
        Verifier::new(hash, &key)?.verify_oneshot(&padded, message).map(Some)
    };
    match verified() {
        Ok(None) => Err(Verdict::Weak(format!("an RSA key of fewer than {RSA_BITS} bits"))),
        Ok(Some(fits)) => Ok(Ok(fits)),
        Err(e) => Ok(Err(e)),
    }
}

/// Verifies ECDSA over a NIST curve (RFC 5656): two numbers, over the hash that belongs to the curve's size.
fn ecdsa(curve: EcdsaCurve, point: &[u8], message: &[u8], raw: &[u8]) -> Result<bool, ErrorStack> {
    let (nid, hash) = match curve {
        EcdsaCurve::NistP256 => (Nid::X9_62_PRIME256V1, MessageDigest::sha256()),
        EcdsaCurve::NistP384 => (Nid::SECP384R1, MessageDigest::sha384()),
        EcdsaCurve::NistP521 => (Nid::SECP521R1, MessageDigest::sha512()),
    };
    let Some((r, s)) = numbers(raw) else { return Ok(false) };
    let group = EcGroup::from_curve_name(nid)?;
    let point = EcPoint::from_bytes(&group, point, &mut *BigNumContext::new()?)?;
    let key: EcKey<Public> = EcKey::from_public_key(&group, &point)?;
    key.check_key()?;
    let signature = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
    signature.verify(&openssl::hash::hash(hash, message)?, &key)
}

/// Two positive numbers, each after its length, and nothing more.
fn numbers(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let (r, rest) = number(raw)?;
    let (s, rest) = number(rest)?;
    rest.is_empty().then_some((r, s))
}

fn number(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (number, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    // The highest bit is the sign, which must be clear.
    number.first().is_some_and(|first| first & 0x80 == 0).then_some((number, rest))
}
