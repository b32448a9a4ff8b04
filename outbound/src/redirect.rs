//! Decides where a redirect may lead, by its address alone. The resolver checks what the host's name resolves to.

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{StatusCode, Url};

use crate::origin::place;

/// The longest address that a redirect may name, in bytes.
const LONGEST: usize = 8192;

/// Why a redirect is not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFollowed {
    /// There is no `Location` header.
    #[error("there is no Location header")]
    NoLocation,
    /// The address is not ASCII, or too long.
    #[error("the Location header is not plain text")]
    NotPlain,
    /// The address cannot be parsed.
    #[error("the Location header is not a valid address")]
    NoAddress,
    /// The address is neither http nor https.
    #[error("it is neither http nor https")]
    Scheme,
    /// The redirect leads from https to http.
    #[error("it is not encrypted, and the address before was")]
    Unencrypted,
    /// The redirect leads to an inner address.
    #[error(
        "it has an address that only this machine or its network can reach, and that the operator did not name"
    )]
    Inner,
    /// There were too many redirects.
    #[error("it is the {0}th redirect in a row")]
    TooMany(usize),
    /// The request does not allow redirects.
    #[error("this request may not be redirected")]
    Unwanted,
}

/// Whether this status is a redirect.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The address that an answer from `from` redirects to (RFC 3986, section 5.2), without user, password and fragment.
/// The error is a short form of the refused address, and the reason.
pub fn redirect_target(from: &Url, headers: &HeaderMap) -> Result<Url, (String, NotFollowed)> {
    let nowhere = |why| (String::from("nowhere"), why);
    let location = headers.get(LOCATION).ok_or_else(|| nowhere(NotFollowed::NoLocation))?;
    let location = location.to_str().ok().filter(|text| text.len() <= LONGEST);
    let location = location.ok_or_else(|| nowhere(NotFollowed::NotPlain))?;
    let mut to = from.join(location).map_err(|_| nowhere(NotFollowed::NoAddress))?;
    to.set_fragment(None);
    if !matches!(to.scheme(), "http" | "https") {
        return Err((place(&to), NotFollowed::Scheme));
    }
    // A redirect must not choose the user name to send, and the operator's user and password are not passed on.
    if to.set_username("").is_err() || to.set_password(None).is_err() || to.host().is_none() {
        return Err((place(&to), NotFollowed::NoAddress));
    }
    if from.scheme() == "https" && to.scheme() != "https" {
        return Err((place(&to), NotFollowed::Unencrypted));
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    fn led(from: &str, location: &[u8]) -> Result<String, NotFollowed> {
        let value = HeaderValue::from_bytes(location).unwrap();
        let headers = HeaderMap::from_iter([(LOCATION, value)]);
        redirect_target(&from.parse().unwrap(), &headers).map(String::from).map_err(|(_, why)| why)
    }

    #[test]
    fn a_redirect_keeps_to_http_and_to_encryption() {
        use NotFollowed::{NoAddress, NotPlain, Scheme, Unencrypted};
        for (from, to, refused) in [
            ("http://a.example/", "http://b.example/", None),
            ("http://a.example/", "https://b.example/", None),
            ("https://a.example/", "https://b.example/", None),
            ("https://a.example/", "http://b.example/", Some(Unencrypted)),
            ("https://a.example/", "HTTP://b.example/", Some(Unencrypted)),
            ("http://a.example/", "ftp://b.example/", Some(Scheme)),
            ("http://a.example/", "file:///etc/passwd", Some(Scheme)),
            ("http://a.example/", "gopher://b.example:25/_x", Some(Scheme)),
            ("http://a.example/", "data:text/plain,x", Some(Scheme)),
            ("http://a.example/", "javascript:x", Some(Scheme)),
            ("http://a.example/", "http://", Some(NoAddress)),
            ("http://a.example/", "http://[::1", Some(NoAddress)),
            ("http://a.example/", "http://\u{fc}.example/", Some(NotPlain)),
        ] {
            assert_eq!(led(from, to.as_bytes()).err(), refused, "{from} {to}");
        }
        assert_eq!(led("http://a.example/", &[b'x'; 9000]).err(), Some(NotPlain));
        let none = redirect_target(&"http://a.example/".parse().unwrap(), &HeaderMap::new());
        assert_eq!(none.unwrap_err().1, NotFollowed::NoLocation);
    }

    #[test]
    fn where_a_redirect_leads_is_seen_from_where_it_came_and_without_its_user() {
        for (location, whole) in [
            ("d", "https://host.example:8/a/d"),
            ("/d?e", "https://host.example:8/d?e"),
            ("?e", "https://host.example:8/a/b?e"),
            ("//other.example/d", "https://other.example/d"),
            ("https://other.example/d#e", "https://other.example/d"),
            ("https://u:p@other.example/d", "https://other.example/d"),
            ("https://0x7f000001/", "https://127.0.0.1/"),
            ("https://host.example@other.example/d", "https://other.example/d"),
        ] {
            assert_eq!(led("https://me:secret@host.example:8/a/b?c", location.as_bytes()).unwrap(), whole);
        }
    }

    proptest! {
        #[test]
        fn a_target_is_http_has_a_host_and_never_a_user(location in "[ -~]{0,80}") {
            for from in ["https://me:secret@h.example/a", "http://h.example/a"] {
                if let Ok(to) = led(from, location.as_bytes()) {
                    let url: Url = to.parse().unwrap();
                    prop_assert!(url.scheme() == "https" || from.starts_with("http:") && url.scheme() == "http");
                    prop_assert!(url.username().is_empty() && url.password().is_none() && url.host().is_some());
                }
            }
        }
    }
}
