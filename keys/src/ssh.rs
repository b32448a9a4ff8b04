//! SSH signatures (OpenSSH's PROTOCOL.sshsig), as `git tag -s` makes them with `gpg.format=ssh`.
//!
//! The signature carries the public key, so nothing has to be found: the key's hash is pinned or it is not.

use ssh_key::{HashAlg, PublicKey, SshSig};

use crate::judge::{Judge, Moment, Signed};
use crate::policy::KeyId;
use crate::{SignatureSeen, Verdict};

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
            let verdict = Verdict::Bad(format!("it does not read: {e}"));
            return moment.seen("unknown issuer".to_owned(), None, None, "ssh".to_owned(), verdict);
        }
    };
    let key = signature.public_key().fingerprint(HashAlg::Sha256).to_string();
    let pin = key.parse().ok().and_then(|id: KeyId| judge.policy.pin(&id));
    let namespace = match signed {
        Signed::Git => "git",
        Signed::File => "file",
    };
    let public = PublicKey::from(signature.public_key().clone());
    let verdict = match pin {
        None => Verdict::UnknownKey,
        Some(_) if signature.namespace() != namespace => {
            Verdict::Bad(format!("made for {:?}, not for {namespace:?}", signature.namespace()))
        }
        Some(pin) => match public.verify(namespace, bytes, &signature) {
            Ok(()) => moment.within(pin, None).unwrap_or(Verdict::Good),
            Err(e) => Verdict::Bad(format!("it does not fit the bytes: {e}")),
        },
    };
    let algorithm = format!("{} {}", signature.algorithm(), signature.hash_alg());
    moment.seen(key, pin, None, algorithm, verdict)
}
