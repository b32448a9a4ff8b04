//! Credentials, each for one origin: the client sends them there and nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use crate::Origin;

/// The longest token, in bytes; the longest that known services issue has a third of it.
const LONGEST_TOKEN: usize = 16 << 10;

/// The value of an `Authorization` header, and the origin that may receive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    origin: Origin,
    value: HeaderValue,
}

/// Credentials that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCredential {
    /// RFC 7617, section 2: a colon ends the name.
    #[error("a user's name must not have a colon or control characters")]
    User,
    /// A control character cannot stand in a password either.
    #[error("a password must not have control characters")]
    Password,
    /// Other characters could end the header or begin another one.
    #[error("a token must be printable ASCII without spaces, and not empty")]
    Token,
    /// No host accepts so long a header.
    #[error("a token must not have more than {LONGEST_TOKEN} bytes")]
    Long,
}

impl Authorization {
    /// A user's name and password (RFC 7617).
    pub fn basic(origin: Origin, user: &str, password: &str) -> Result<Self, BadCredential> {
        if user.contains(|c: char| c == ':' || c.is_control()) {
            return Err(BadCredential::User);
        }
        if password.contains(char::is_control) {
            return Err(BadCredential::Password);
        }
        let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        Self::new(origin, &text).ok_or(BadCredential::Password)
    }

    /// A token (RFC 6750) from a token service.
    pub fn bearer(origin: Origin, token: &str) -> Result<Self, BadCredential> {
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BadCredential::Token);
        }
        if token.len() > LONGEST_TOKEN {
            return Err(BadCredential::Long);
        }
        Self::new(origin, &format!("Bearer {token}")).ok_or(BadCredential::Token)
    }

    fn new(origin: Origin, text: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(text).ok()?;
        // So that debug output hides it.
        value.set_sensitive(true);
        Some(Self { origin, value })
    }

    /// The header's value, if `origin` is the one that it was made for.
    pub(crate) fn value_for(&self, origin: &Origin) -> Option<&HeaderValue> {
        (self.origin == *origin).then_some(&self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    #[test]
    fn credentials_are_for_one_origin_and_are_not_printed() {
        let here = origin("https://r.example");
        let basic = Authorization::basic(here.clone(), "user", "pass").unwrap();
        assert_eq!(basic.value_for(&here).unwrap(), "Basic dXNlcjpwYXNz");
        for other in ["http://r.example", "https://r.example:444", "https://s.example", "https://a.r.example"]
        {
            assert_eq!(basic.value_for(&origin(other)), None, "{other}");
        }
        assert!(!format!("{basic:?}").contains("dXNl"), "{basic:?}");
    }

    #[test]
    fn a_token_that_would_be_another_header_is_none() {
        let bearer = |token: &str| Authorization::bearer(origin("https://r.example"), token).map(drop);
        assert_eq!(bearer("abc.DEF-_~+/=="), Ok(()));
        for bad in ["", "a\r\nX-Evil: 1", "a\nb", "a b", "a\0", "\u{7f}", "t\u{f6}ken"] {
            assert_eq!(bearer(bad), Err(BadCredential::Token), "{bad:?}");
        }
        assert_eq!(bearer(&"a".repeat(LONGEST_TOKEN + 1)), Err(BadCredential::Long));
        let basic =
            |user, password| Authorization::basic(origin("https://r.example"), user, password).map(drop);
        assert_eq!(basic("a:b", "c"), Err(BadCredential::User));
        assert_eq!(basic("a", "c\n"), Err(BadCredential::Password));
        assert_eq!(basic("a", "\u{fc}: \"'"), Ok(()));
    }
}
