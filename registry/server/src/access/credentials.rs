//! Credentials in a request (RFC 9110, section 11; RFC 7617; RFC 6750).

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::issued;

/// The content of the Authorization header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// There is no such header.
    Nothing,
    /// A name, which may be empty, and a password.
    Basic { name: String, password: String },
    /// A token.
    Bearer(String),
    /// It is malformed, of another scheme, or there are several.
    Garbled,
}

impl Credentials {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        match (all.next(), all.next()) {
            (None, _) => Self::Nothing,
            (Some(value), None) if value.len() <= issued::LONGEST + 16 => {
                value.to_str().ok().and_then(Self::read).unwrap_or(Self::Garbled)
            }
            _ => Self::Garbled,
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self::Bearer(rest.to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        let (name, password) = text.split_once(':')?;
        Some(Self::Basic { name: name.to_owned(), password: password.to_owned() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&[u8]]) -> Credentials {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, axum::http::HeaderValue::from_bytes(value).unwrap());
        }
        Credentials::of(&headers)
    }

    #[test]
    fn both_schemes_are_read_in_any_case() {
        let basic = Credentials::Basic { name: "alice".into(), password: "a:b".into() };
        assert_eq!(of(&[b"Basic YWxpY2U6YTpi"]), basic);
        assert_eq!(of(&[b"bAsIc  YWxpY2U6YTpi"]), basic);
        assert_eq!(of(&[b"bearer abc"]), Credentials::Bearer("abc".into()));
        assert_eq!(of(&[]), Credentials::Nothing);
    }

    #[test]
    fn what_is_neither_is_not_taken_for_nothing() {
        let long = [b"Bearer ".as_slice(), &vec![b'x'; 40_000]].concat();
        for bad in [
            b"".as_slice(),
            b"Basic",
            b"Basic !",
            b"Basic YWxpY2U=",
            b"Digest a=b",
            b"Basic /////w==",
            b"\xff \xff",
            &long,
        ] {
            assert_eq!(of(&[bad]), Credentials::Garbled, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(of(&[b"Bearer a", b"Bearer b"]), Credentials::Garbled);
    }

    proptest! {
        #[test]
        fn headers_from_outside_never_panic(text in "(Basic |Bearer )?[ -~]{0,80}") {
            let _ = of(&[text.as_bytes()]);
        }
    }
}
