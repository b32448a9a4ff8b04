//! Tokens that this service issues: they say themselves what they are for, under its own key, so that nothing has to be
//! looked up to believe one.
//!
//! `hab1.<claims>.<signature>`: the claims are JSON in base64url, the signature is HMAC-SHA256 over all before it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::certificate::CertificateId;
use super::error::AccessError;
use super::key::{Key, random};
use super::rules::Grant;
use super::version::Version;

const PREFIX: &str = "hab1.";
/// Bytes of a token: [`super::scope::MOST`] names of the longest kind fit.
pub(crate) const LONGEST: usize = 32 * 1024;

/// What somebody showed to get a token, and with that what has to hold still when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shown {
    /// Nothing.
    Nothing,
    /// A password: its name must still have this one.
    Password,
    /// A token of the operator's file: its name must still have this one.
    Token,
    /// A certificate: the same authorities must still be believed, and none of them may have revoked it.
    Certificate,
    /// `hab-build registry token issue`: nothing but the claims themselves, until the id is revoked.
    Operator,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    /// Who; nobody's is one of [`Shown::Nothing`].
    pub(crate) name: Option<Account>,
    pub(crate) shown: Shown,
    /// Of the token that this one was made for, too: revoking it ends both.
    pub(crate) id: u64,
    /// Unix seconds.
    pub(crate) issued: i64,
    /// Unix seconds; from then on it is worth nothing.
    pub(crate) expires: i64,
    pub(crate) grants: Vec<Grant>,
    /// The list of repositories may be asked for: of it, what its owner may see.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) catalog: bool,
    /// Of what was shown; a token ends when that becomes another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<Version>,
    /// Which certificate was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<CertificateId>,
}

impl Claims {
    pub(crate) fn fresh_id() -> Result<u64, AccessError> {
        Ok(u64::from_be_bytes(random()?))
    }

    pub(crate) fn sign(&self, key: &Key) -> String {
        // Nothing in here is a map with keys that are no text, which is all that could fail.
        let json = serde_json::to_vec(self).unwrap_or_default();
        let claims = URL_SAFE_NO_PAD.encode(json);
        let signature = key.sign(&[PREFIX.as_bytes(), claims.as_bytes()]);
        format!("{PREFIX}{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token of this key that has not expired at `now`.
    pub(crate) fn read(token: &str, key: &Key, now: i64) -> Option<Self> {
        if token.len() > LONGEST {
            return None;
        }
        let (claims, signature) = token.strip_prefix(PREFIX)?.split_once('.')?;
        let mut bytes = [0; 32];
        let length = URL_SAFE_NO_PAD.decode_slice(signature, &mut bytes).ok()?;
        if !key.verify(&[PREFIX.as_bytes(), claims.as_bytes()], &bytes[..length]) {
            return None;
        }
        let claims: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        (now < claims.expires).then_some(claims)
    }

    /// Whether a text is meant to be a token of this kind.
    pub(crate) fn looks_like(text: &str) -> bool {
        text.starts_with(PREFIX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::rules::Action;

    fn grants() -> impl Strategy<Value = Vec<Grant>> {
        let action = (0..3usize).prop_map(|n| Action::ALL[n]);
        let grant = ("[a-z*/]{1,40}", prop::collection::vec(action, 0..3))
            .prop_map(|(pattern, actions)| Grant { repository: pattern.parse().unwrap(), actions });
        prop::collection::vec(grant, 0..5)
    }

    prop_compose! {
        fn claims()(
            name in prop::option::of("[a-z0-9._@+]{2,20}x"), kind in 0..5usize, id: u64, issued: i64, expires: i64,
            grants in grants(), versions: bool,
        ) -> Claims {
            let shown = [Shown::Nothing, Shown::Password, Shown::Token, Shown::Certificate, Shown::Operator][kind];
            let name = name.map(|name| name.parse().unwrap());
            let catalog = versions;
            let version = versions
                .then(|| Version::of(&Key::random().unwrap(), "password", &"a".parse().unwrap(), b"hash"));
            let certificate = versions.then(|| CertificateId::of(b"issuer", b"1"));
            Claims { name, shown, id, issued, expires, grants, catalog, version, certificate }
        }
    }

    proptest! {
        #[test]
        fn a_token_says_what_was_signed_until_it_expires(claims in claims(), now: i64) {
            let key = Key::random().unwrap();
            let read = Claims::read(&claims.sign(&key), &key, now);
            prop_assert_eq!(read, (now < claims.expires).then_some(claims));
        }

        #[test]
        fn a_token_with_any_other_byte_is_worth_nothing(claims in claims(), at: prop::sample::Index, by in 1..128u8) {
            let key = Key::random().unwrap();
            let mut bytes = claims.sign(&key).into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = (bytes[at] ^ by) & 0x7f;
            let changed = String::from_utf8(bytes).unwrap();
            prop_assume!(changed != claims.sign(&key));
            prop_assert_eq!(Claims::read(&changed, &key, i64::MIN), None);
        }

        #[test]
        fn a_token_of_another_key_is_worth_nothing(claims in claims()) {
            let token = claims.sign(&Key::random().unwrap());
            prop_assert_eq!(Claims::read(&token, &Key::random().unwrap(), i64::MIN), None);
        }

        #[test]
        fn texts_from_outside_never_panic(text in "(hab1\\.)?[a-zA-Z0-9_.=-]{0,200}") {
            let _ = Claims::read(&text, &Key::random().unwrap(), 0);
        }
    }

    #[test]
    fn a_token_that_is_longer_than_any_is_not_looked_at() {
        let key = Key::random().unwrap();
        let grant = Grant { repository: "a".repeat(255).parse().unwrap(), actions: Action::ALL.to_vec() };
        let of = |count| Claims {
            name: None,
            shown: Shown::Nothing,
            id: 1,
            issued: 0,
            expires: 9,
            grants: vec![grant.clone(); count],
            catalog: true,
            version: None,
            certificate: None,
        };
        assert!(Claims::read(&of(crate::access::scope::MOST).sign(&key), &key, 0).is_some());
        assert!(Claims::read(&of(200).sign(&key), &key, 0).is_none());
    }
}
