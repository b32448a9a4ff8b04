//! An identifier of the credential that an account used, in a form that an issued token can carry. It changes when the
//! credential changes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::key::Key;

/// Bytes of a version: enough that nobody finds another password with the same version.
const LENGTH: usize = 16;

/// An HMAC of a password's hash, a token's digest, or the authorities for certificates. It is made with the key of
/// issued tokens, so that a token's reader learns nothing that helps to guess a password.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Version(String);

impl Version {
    pub(crate) fn of(key: &Key, kind: &'static str, name: &Account, secret: &[u8]) -> Self {
        // No token's signature covers a text with this beginning, and neither a kind nor a name has a zero byte in it.
        let parts =
            [b"version of ".as_slice(), kind.as_bytes(), &[0], name.as_str().as_bytes(), &[0], secret];
        Self(URL_SAFE_NO_PAD.encode(&key.sign(&parts)[..LENGTH]))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Version").field(&self.0).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_of_one_key_kind_name_and_secret() {
        let (key, other) = (Key::random().unwrap(), Key::random().unwrap());
        let (alice, bob): (Account, Account) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let version = Version::of(&key, "password", &alice, b"hash");
        assert_eq!(version, Version::of(&key, "password", &alice, b"hash"));
        for another in [
            Version::of(&other, "password", &alice, b"hash"),
            Version::of(&key, "token", &alice, b"hash"),
            Version::of(&key, "password", &bob, b"hash"),
            Version::of(&key, "password", &alice, b"hasi"),
        ] {
            assert_ne!(version, another);
        }
    }
}
