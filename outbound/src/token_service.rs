//! Decides which token service is asked on behalf of a host. The host names it, and it receives a password: so it is
//! compared with the one that the operator configured, or that the host named first.

use reqwest::Url;

use crate::{NamedBy, Origin, looks_inner};

/// What is already known of a host's token service. Its origin identifies it: TLS vouches for the origin, and some
/// hosts use a different path for each repository.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// The operator configured it.
    Configured(&'a Origin),
    /// The host itself named it the first time.
    Pinned(&'a Origin),
    /// Nothing is known yet.
    Nothing,
}

/// A token service that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenService {
    url: Url,
    origin: Origin,
    named_by: NamedBy,
}

/// Why a token service is not asked. The origins in it hold no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The host's realm is not an http or https address.
    #[error("it names a token service without an http or https address")]
    NoAddress,
    /// The operator configured another one.
    #[error("it names the token service {named}, and {configured} is configured")]
    NotConfigured {
        /// The one that the host names.
        named: Origin,
        /// The one that the operator configured.
        configured: Origin,
    },
    /// The host named another one the first time.
    #[error(
        "it names the token service {named}, and the first time it named {pinned}; if that is right, configure {named} as \
         its token-service"
    )]
    NotPinned {
        /// The one that the host names now.
        named: Origin,
        /// The one that it named the first time.
        pinned: Origin,
    },
    /// Credentials sent there would not be encrypted.
    #[error(
        "it names the token service {named}, which is not https; if that is right, configure it as its token-service"
    )]
    Unencrypted {
        /// The one that the host names.
        named: Origin,
    },
    /// Only this machine or its network can reach it.
    #[error(
        "it names the token service {named}, an address that only this machine or its network can reach; if that is right, \
         configure it as its token-service"
    )]
    Inner {
        /// The one that the host names.
        named: Origin,
    },
}

impl TokenService {
    /// Accepts or refuses the realm that `host` itself named. The client checks what its name resolves to when it is
    /// asked.
    pub fn accept(host: &Origin, realm: &str, known: Known<'_>) -> Result<Self, NotAccepted> {
        let mut url: Url = realm.parse().map_err(|_| NotAccepted::NoAddress)?;
        let named = Origin::of(&url).ok_or(NotAccepted::NoAddress)?;
        // A query in the realm could ask for another scope, beside ours or before it.
        url.set_query(None);
        url.set_fragment(None);
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Err(NotAccepted::NoAddress);
        }
        let named_by = match known {
            Known::Configured(configured) if *configured == named => NamedBy::Operator,
            Known::Configured(configured) => {
                return Err(NotAccepted::NotConfigured { named, configured: configured.clone() });
            }
            Known::Pinned(pinned) if *pinned != named => {
                return Err(NotAccepted::NotPinned { named, pinned: pinned.clone() });
            }
            Known::Pinned(_) | Known::Nothing if named == *host => NamedBy::Operator,
            Known::Pinned(_) | Known::Nothing => NamedBy::Outside,
        };
        if named_by == NamedBy::Outside {
            if host.is_https() && !named.is_https() {
                return Err(NotAccepted::Unencrypted { named });
            }
            if looks_inner(named.host()) {
                return Err(NotAccepted::Inner { named });
            }
        }
        Ok(Self { url, origin: named, named_by })
    }

    /// The token service's origin.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Who named it; that decides whether it may be at an inner address.
    pub fn named_by(&self) -> NamedBy {
        self.named_by
    }

    /// The address that gives a token for our `scope`; `service` is the host's name for itself.
    pub fn address(&self, service: Option<&str>, scope: Option<&str>) -> Url {
        let mut url = self.url.clone();
        let pairs = [("scope", scope), ("service", service)];
        let said = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
        if said.clone().next().is_some() {
            url.query_pairs_mut().extend_pairs(said);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(host: &str, realm: &str, known: Known<'_>) -> Result<TokenService, NotAccepted> {
        TokenService::accept(&host.parse().unwrap(), realm, known)
    }

    #[test]
    fn a_token_service_is_the_hosts_own_or_public_and_encrypted_as_the_host_is() {
        for (host, realm, good) in [
            ("https://r.example", "https://auth.example/token", true),
            ("https://r.example", "https://r.example/token", true),
            ("http://r.example", "https://auth.example/token", true),
            ("http://r.example", "http://auth.example/token", true),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/token", true),
            ("https://r.example", "http://auth.example/token", false),
            ("https://r.example", "http://r.example/token", false),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", false),
            ("http://127.0.0.1:5000", "http://127.0.0.2:5000/token", false),
            ("http://r.example", "http://169.254.169.254/token", false),
            ("http://r.example", "http://2852039166/token", false),
            ("http://r.example", "http://[::ffff:169.254.169.254]/token", false),
            ("http://r.example", "http://localhost/token", false),
            ("http://r.example", "http://metadata.google.internal/token", false),
            ("http://r.example", "file:///etc/passwd", false),
            ("http://r.example", "/token", false),
            ("http://r.example", "", false),
        ] {
            assert_eq!(accept(host, realm, Known::Nothing).is_ok(), good, "{host} {realm}");
        }
        // The operator may configure an exception.
        let named = "http://127.0.0.1:5001".parse().unwrap();
        let configured = Known::Configured(&named);
        let accepted = accept("https://r.example", "http://127.0.0.1:5001/token", configured).unwrap();
        assert_eq!(accepted.named_by(), NamedBy::Operator);
    }

    #[test]
    fn another_token_service_than_the_first_or_the_configured_one_is_refused() {
        let first: Origin = "https://auth.example".parse().unwrap();
        for known in [Known::Pinned(&first), Known::Configured(&first)] {
            assert!(accept("https://r.example", "https://auth.example/other/path", known).is_ok());
            for other in
                ["https://evil.example/token", "https://auth.example:444/t", "https://r.example/token"]
            {
                let said = accept("https://r.example", other, known).unwrap_err().to_string();
                assert!(said.contains("https://auth.example"), "{other}: {said}");
            }
        }
        // A pin does not come from the operator: an inner address stays refused.
        let inner: Origin = "http://127.0.0.1:5001".parse().unwrap();
        assert!(accept("http://r.example", "http://127.0.0.1:5001/t", Known::Pinned(&inner)).is_err());
    }

    #[test]
    fn the_scope_is_ours_whatever_the_realm_says() {
        let realm = "https://u:p@auth.example/token?scope=repository:victim/x:push&a=b#f";
        let service = accept("https://r.example", realm, Known::Nothing).unwrap();
        let asked = service.address(Some("r&scope=x"), Some("repository:a/b:pull"));
        assert_eq!(
            asked.as_str(),
            "https://auth.example/token?scope=repository%3Aa%2Fb%3Apull&service=r%26scope%3Dx"
        );
        assert_eq!(service.address(None, None).as_str(), "https://auth.example/token");
    }
}
