//! Parses the ways to authenticate that a host offers: `WWW-Authenticate` (RFC 9110, section 11.6.1; distribution's
//! token authentication specification).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// The most challenges that are read; a usual host sends two.
const MOST: usize = 8;

/// One way to authenticate that a host offers. Its scope is not read: the caller knows what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// A user's name and password.
    Basic,
    /// A token from a token service.
    Bearer {
        /// The token service's address.
        realm: String,
        /// The token service's name for this host.
        service: Option<String>,
    },
}

/// Every offer of a known scheme, in the order of the headers and within them. Other schemes are skipped.
pub fn offers(headers: &HeaderMap) -> Vec<Offer> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(read).take(MOST).collect()
}

/// A scheme and its parameters, with their names in lower case.
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn offer(self) -> Option<Offer> {
        // If a name comes twice, the first one counts.
        let find = |name: &str| self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        match self.scheme.as_str() {
            "basic" => Some(Offer::Basic),
            "bearer" => Some(Offer::Bearer { realm: find("realm")?, service: find("service") }),
            _ => None,
        }
    }
}

/// Splits a header into challenges. Commas separate both challenges and their parameters: a word is a parameter if an
/// equals sign follows it, and a scheme otherwise.
fn read(header: &str) -> Vec<Offer> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            // A character that belongs to no token: skip it, or stop if the text is at its end.
            let mut letters = rest.chars();
            if letters.next().is_none() {
                break;
            }
            rest = letters.as_str();
            continue;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        if let (Some(value), Some(challenge)) = (value, found.last_mut()) {
            let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
            challenge.parameters.push((word.to_ascii_lowercase(), value));
            rest = after;
        } else {
            found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            rest = after;
        }
    }
    found.into_iter().filter_map(Challenge::offer).collect()
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

/// A value and the text after it. A quoted value may contain commas and escaped quotes; another one ends at the next
/// comma or space.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => value.extend(letters.next()),
            other => value.push(other),
        }
    }
    (value, letters.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Offer {
        Offer::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    fn all(headers: &[&str]) -> Vec<Offer> {
        let mut map = HeaderMap::new();
        for text in headers {
            map.append(WWW_AUTHENTICATE, text.parse().unwrap());
        }
        offers(&map)
    }

    #[test]
    fn a_bearer_challenge_names_realm_and_service() {
        let usual = r#"Bearer realm="https://auth.invalid/token",service="reg.invalid",scope="repository:a/b:pull,push""#;
        assert_eq!(all(&[usual]), [bearer("https://auth.invalid/token", Some("reg.invalid"))]);
        let odd = r#"bearer  Realm=https://a.invalid , service="a \"quoted\" one", error="x""#;
        assert_eq!(all(&[odd]), [bearer("https://a.invalid", Some("a \"quoted\" one"))]);
    }

    #[test]
    fn basic_and_bearer_are_found_together_in_one_header_or_several_in_any_order() {
        let (basic, token) = (r#"Basic realm="a, b=c""#, r#"Bearer realm="https://a.invalid/t",service="s""#);
        let (b, t) = (Offer::Basic, bearer("https://a.invalid/t", Some("s")));
        assert_eq!(all(&[basic, token]), [b.clone(), t.clone()]);
        assert_eq!(all(&[token, basic]), [t.clone(), b.clone()]);
        assert_eq!(all(&[&format!("{basic}, {token}")]), [b.clone(), t.clone()]);
        assert_eq!(all(&[&format!("{token},{basic}")]), [t.clone(), b.clone()]);
        assert_eq!(all(&[&format!("Negotiate, {token}, NTLM abc==, {basic}")]), [t.clone(), b.clone()]);
        assert_eq!(all(&[&format!("Basic, {token}")]), [b.clone(), t]);
        // A challenge within quotes is part of a value.
        assert_eq!(all(&[r#"Basic realm="x\", Bearer realm=\"https://evil.invalid\"""#]), [b]);
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for text in
            ["", ",", "Negotiate", "Bearer", "Bearer service=\"x\"", "Digest realm=\"x\"", "=\"\"", "@@"]
        {
            assert_eq!(all(&[text]), [], "{text}");
        }
        let many = ["Basic"; 100];
        assert_eq!(all(&many).len(), MOST);
    }

    proptest! {
        #[test]
        fn headers_from_outside_never_panic(text in ".{0,80}", tail in "[\"=,\\\\ a-z]{0,60}") {
            let _ = (read(&text), read(&format!("Bearer {tail}")));
        }
    }
}
