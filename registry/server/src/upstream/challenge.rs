//! What an upstream asks for before it answers: `WWW-Authenticate` (RFC 9110, section 11.6.1; distribution's token
//! authentication specification).

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A user's name and password.
    Basic,
    /// A token from somewhere else.
    Bearer {
        /// Where it is to be had.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads a header; `None` where neither scheme is offered.
    pub(crate) fn of(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (name, value) in parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }

    /// The same, asked about another repository.
    pub(super) fn for_any_scope(self) -> Self {
        match self {
            Self::Basic => Self::Basic,
            Self::Bearer { realm, service, .. } => Self::Bearer { realm, service, scope: None },
        }
    }
}

/// `name="value", name=value`, where a quoted value may hold commas and escaped quotes.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while let Some((name, after)) = rest.split_once('=') {
        let mut value = String::new();
        let end = if let Some(quoted) = after.strip_prefix('"') {
            let mut escaped = false;
            let mut end = quoted.len();
            for (at, letter) in quoted.char_indices() {
                match letter {
                    _ if escaped => {
                        value.push(letter);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    _ => value.push(letter),
                }
            }
            &quoted[end..]
        } else {
            let end = after.find(',').unwrap_or(after.len());
            after[..end].trim().clone_into(&mut value);
            &after[end..]
        };
        found.push((name.trim().to_owned(), value));
        rest = end.trim_start_matches([' ', ',']);
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bearer_challenge_names_realm_service_and_scope() {
        let header = r#"Bearer realm="https://auth.invalid/token",service="reg.invalid",scope="repository:a/b:pull,push""#;
        assert_eq!(
            Challenge::of(header).unwrap(),
            Challenge::Bearer {
                realm: "https://auth.invalid/token".to_owned(),
                service: Some("reg.invalid".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            }
        );
        let odd = r#"bearer  Realm=https://a.invalid , service="a \"quoted\" one", error="x""#;
        let Some(Challenge::Bearer { realm, service, scope: None }) = Challenge::of(odd) else { panic!() };
        assert_eq!((realm.as_str(), service.as_deref()), ("https://a.invalid", Some("a \"quoted\" one")));
        assert_eq!(Challenge::of(r#"Basic realm="x""#), Some(Challenge::Basic));
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for text in ["", "Negotiate", "Bearer", "Bearer service=\"x\"", "Digest realm=\"x\""] {
            assert_eq!(Challenge::of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn headers_from_outside_never_panic(text in ".{0,80}", tail in "[\"=,\\\\ a-z]{0,60}") {
            let _ = (Challenge::of(&text), Challenge::of(&format!("Bearer {tail}")));
        }
    }
}
