//! Tokens that this service issues. A token names its own permissions, signed with the service's key, so that nothing
//! has to be looked up to verify it.
//!
//! `hab1.<claims>.<signature>`: the claims are JSON in base64url, the signature is HMAC-SHA256 over everything before
//! it.

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
/// The longest token, in bytes: [`super::scope::MOST`] repository names of the greatest length fit.
pub(crate) const LONGEST: usize = 32 * 1024;

/// The credential that a token was issued for, and the condition under which the token stays valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shown {
    /// Nothing: the client had no account.
    Nothing,
    /// A password: the account must still have it.
    Password,
    /// A token of the operator's file: the account must still have it.
    Token,
    /// A certificate: the same authorities must still be trusted, and none of them may have revoked it.
    Certificate,
    /// Made by `hab-build registry token issue`: only the claims count, until the id is revoked.
    Operator,
}

/// The content of a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    /// The account; `None` only for [`Shown::Nothing`].
    pub(crate) name: Option<Account>,
    pub(crate) shown: Shown,
    /// The id. A token that was got with another token has its id, so that revoking it ends both.
    pub(crate) id: u64,
    /// Unix seconds.
    pub(crate) issued: i64,
    /// Unix seconds; the token is invalid from then on.
    pub(crate) expires: i64,
    pub(crate) grants: Vec<Grant>,
    /// The token also allows to list the repositories that its owner may see.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) catalog: bool,
    /// Identifies the credential; the token ends when the credential changes.
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
        // Cannot fail: that needs a map with keys that are no text, and there is none.
        let json = serde_json::to_vec(self).unwrap_or_default();
        let claims = URL_SAFE_NO_PAD.encode(json);
        let signature = key.sign(&[PREFIX.as_bytes(), claims.as_bytes()]);
        format!("{PREFIX}{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Verifies a token: returns its claims if this key signed them and they have not expired at `now`.
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
