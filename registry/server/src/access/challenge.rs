//! The `WWW-Authenticate` header for a client that must show credentials, or other ones.

use axum::http::HeaderMap;

use super::error::AccessError;
use super::peer::{Peer, origin};

/// The path where clients get tokens. It is below `/v2/`, so that a proxy that passes the registry also passes this.
pub(crate) const TOKEN_PATH: &str = "/v2/token";

/// The name of this service in the token protocol. Security does not depend on it: tokens of another service have
/// another key.
const SERVICE: &str = "hab-build";

/// Why a request must show other credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("this needs an account: log in")]
    Nothing,
    #[error("the name or the password is wrong")]
    Wrong,
    #[error("the token is not of this registry, or is no longer valid")]
    Token,
    #[error("the token does not allow this")]
    Scope,
    #[error("the client's certificate is no longer valid: it expired, or was revoked")]
    Certificate,
}

impl Problem {
    /// The `error` attribute of RFC 6750, section 3.1.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Nothing | Self::Wrong | Self::Certificate => None,
            Self::Token => Some("invalid_token"),
            Self::Scope => Some("insufficient_scope"),
        }
    }
}

/// A challenge that names the address where the client gets a token for `scope`.
pub(crate) fn bearer(
    url: Option<&str>,
    headers: &HeaderMap,
    peer: &Peer,
    scope: Option<&str>,
    problem: Problem,
) -> String {
    let Some(origin) = url.map(str::to_owned).or_else(|| origin(headers, peer)) else {
        return basic();
    };
    let mut text = format!("Bearer realm=\"{origin}{TOKEN_PATH}\",service=\"{SERVICE}\"");
    for (name, value) in [("scope", scope), ("error", problem.word())] {
        if let Some(value) = value {
            text.push_str(&format!(",{name}=\"{value}\""));
        }
    }
    text
}

/// A challenge for a name and a password.
pub(crate) fn basic() -> String {
    format!("Basic realm=\"{SERVICE}\"")
}

/// Checks an address before clients are given it: scheme, host, an optional port, and the path before `/v2`.
pub(crate) fn checked(url: &str) -> Result<String, AccessError> {
    let url = url.trim_end_matches('/');
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]/~".contains(&b);
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') && host.bytes().all(plain) => {
            Ok(url.to_owned())
        }
        _ => Err(AccessError::Url(url.to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn said(host: &[u8], secure: bool, more: Option<&'static str>) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_bytes(host).unwrap());
        if let Some(scheme) = more {
            headers.insert("x-forwarded-proto", HeaderValue::from_static(scheme));
        }
        let peer = Peer { address: [127, 0, 0, 1].into(), secure, certificate: None };
        bearer(None, &headers, &peer, Some("repository:a:pull"), Problem::Scope)
    }

    #[test]
    fn a_client_is_told_the_address_that_it_came_by() {
        let rest =
            "/v2/token\",service=\"hab-build\",scope=\"repository:a:pull\",error=\"insufficient_scope\"";
        assert_eq!(said(b"farm:5000", false, None), format!("Bearer realm=\"http://farm:5000{rest}"));
        assert_eq!(said(b"[::1]:5000", true, None), format!("Bearer realm=\"https://[::1]:5000{rest}"));
        assert_eq!(said(b"farm", false, Some("https")), format!("Bearer realm=\"https://farm{rest}"));
        for bad in [b"a\"b".as_slice(), b"", b"a b", b"a/b", b"a\\", b"\xff", &[b'a'; 300]] {
            assert_eq!(said(bad, true, None), "Basic realm=\"hab-build\"");
        }
    }

    #[test]
    fn an_address_in_the_configuration_is_one() {
        assert_eq!(checked("https://farm.example/registry/").unwrap(), "https://farm.example/registry");
        for bad in ["", "farm", "https://", "https:///v2", "ftp://farm", "https://a\"b", "https://a b"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
