//! Origins: the scheme, host and port that credentials belong to (RFC 6454) and that an operator names.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

/// The most characters of an address that are shown.
const SHOWN: usize = 300;

/// Scheme, host and port of an http or https address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// A text that is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not like https://host.example:8443")]
pub struct BadOrigin(String);

impl Origin {
    /// The origin of an address; `None` if it is neither http nor https.
    pub fn of(url: &Url) -> Option<Self> {
        let scheme = url.scheme();
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let host = url.host_str().filter(|host| !host.is_empty())?.to_owned();
        Some(Self { scheme: scheme.to_owned(), host, port: url.port_or_known_default()? })
    }

    /// Whether connections to it are encrypted.
    pub fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// The host: a name in ASCII, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = if self.is_https() { 443 } else { 80 };
        write!(f, "{}://{}", self.scheme, self.host)?;
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl FromStr for Origin {
    type Err = BadOrigin;

    /// Parses an address as an operator writes it. Ignores a path, because credentials of an origin hold for all its
    /// paths. Refuses a user or a query: the operator must have meant something else.
    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let bad = || BadOrigin(text.split('@').next_back().unwrap_or_default().to_owned());
        let url: Url = text.trim().parse().map_err(|_| bad())?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(bad());
        }
        Self::of(&url).ok_or_else(bad)
    }
}

/// An address for people and logs: without user, password, query and fragment, which may be secrets, and cut if too
/// long.
pub fn shown(url: &Url) -> String {
    let mut plain = url.clone();
    // These calls fail only for addresses that cannot have a user or a password.
    let _ = plain.set_username("");
    let _ = plain.set_password(None);
    plain.set_query(None);
    plain.set_fragment(None);
    cut(plain.into())
}

fn cut(mut text: String) -> String {
    if text.len() > SHOWN {
        // Addresses are ASCII, so any byte is a boundary.
        text.truncate(SHOWN);
        text.push('…');
    }
    text
}

/// The origin of an address for people, or else its scheme. Leaves out the path, which may be a secret in a redirect.
pub(crate) fn place(url: &Url) -> String {
    cut(Origin::of(url).map_or_else(|| format!("{}:", url.scheme()), |origin| origin.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text: &str| text.parse::<Origin>();
        assert_eq!(origin("https://H.example").unwrap().to_string(), "https://h.example");
        assert_eq!(origin("https://h.example:443/token").unwrap(), origin("https://h.example").unwrap());
        assert_eq!(origin("http://[::1]:5000").unwrap().to_string(), "http://[::1]:5000");
        assert_ne!(origin("https://h.example:444").unwrap(), origin("https://h.example").unwrap());
        assert_ne!(origin("http://h.example").unwrap(), origin("https://h.example").unwrap());
        // Other spellings of an address give the same origin.
        for written in ["http://2130706433", "http://0x7f.1", "http://017700000001", "http://127.1"] {
            assert_eq!(origin(written).unwrap().host(), "127.0.0.1", "{written}");
        }
        for bad in
            ["h.example", "ftp://h.example", "file:///x", "https://u:secret@h.example", "https://h/?a", ""]
        {
            let said = origin(bad).unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn what_is_shown_of_an_address_has_no_secrets_and_an_end() {
        let url: Url = "https://me:secret@h.example/a/b?X-Signature=abc#f".parse().unwrap();
        assert_eq!(shown(&url), "https://h.example/a/b");
        let long: Url = format!("https://h.example/{}", "a".repeat(5000)).parse().unwrap();
        assert!(shown(&long).len() < SHOWN + 10);
        let long: Url = format!("https://{}.example/", "a".repeat(5000)).parse().unwrap();
        assert!(place(&long).len() < SHOWN + 10);
        let odd: Url = "https://h.example/\u{202e}\u{1b}[2J".parse().unwrap();
        assert!(shown(&odd).is_ascii() && !shown(&odd).contains('\u{1b}'));
    }
}
