//! Addresses to fetch from, and who named them.

use std::path::Path;

use hab_outbound::{Client, NamedBy, Origin, Proxies, Settings, Url};

use crate::MirrorError;

/// An address, and whether the operator or a document from outside named it. `http` and `https`; `file` only if the
/// operator named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address to ask, with everything in it.
    pub url: String,
    pub(crate) named_by: NamedBy,
}

impl From<String> for Address {
    /// An address that the operator, a lock or a project's file names.
    fn from(url: String) -> Self {
        Self { url, named_by: NamedBy::Operator }
    }
}

impl Address {
    /// The address for people: without user, password and query, which may be secrets.
    pub fn shown(&self) -> String {
        let url = self.url.parse::<Url>().ok().filter(|url| Origin::of(url).is_some());
        url.map_or_else(|| self.url.clone(), |url| hab_outbound::shown(&url))
    }

    /// The base of an operator's http or https addresses, such as `https://host.example:8443/path`, without a final
    /// slash. `None` for anything else, and for an address with a user or a query.
    pub fn base(text: &str) -> Option<String> {
        let url: Url = text.parse().ok()?;
        let plain = url.username().is_empty() && url.password().is_none();
        let ends = url.query().is_none() && url.fragment().is_none() && !text.contains(char::is_whitespace);
        Origin::of(&url).filter(|_| plain && ends)?;
        Some(url.as_str().trim_end_matches('/').to_owned())
    }

    /// An address that a document from outside names: it must not lead to this machine or its network, nor to a file.
    pub fn from_outside(url: impl Into<String>) -> Self {
        Self { url: url.into(), named_by: NamedBy::Outside }
    }

    /// An address in a document that was found at `base`. At the same origin, it counts as named by the operator.
    pub fn from_document_at(base: &str, url: impl Into<String>) -> Self {
        let url = url.into();
        let origin = |text: &str| Origin::of(&text.parse::<Url>().ok()?);
        if origin(&url).is_some() && origin(&url) == origin(base) {
            return Self::from(url);
        }
        Self::from_outside(url)
    }
}

/// What an operator sets about requests to hosts outside. Proxies come from the environment.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// PEM certificates of further authorities to trust, besides the machine's own trust store.
    authorities: Option<Vec<u8>>,
    /// Origins at inner addresses to which redirects and documents from outside may lead.
    inner: Vec<Origin>,
}

impl Outside {
    /// Reads `ca`, a file of certificates in PEM, and `inner`, a list of origins such as `http://10.0.0.6:9000`.
    pub fn new(ca: Option<&Path>, inner: &[String]) -> Result<Self, MirrorError> {
        let wrong = |url: String, e: &dyn std::fmt::Display| MirrorError::Url { url, detail: e.to_string() };
        let authorities = ca.map(|path| std::fs::read(path).map_err(MirrorError::io(path))).transpose()?;
        let inner = inner.iter().map(|text| text.parse().map_err(|e| wrong(text.clone(), &e)));
        let outside = Self { authorities, inner: inner.collect::<Result<_, _>>()? };
        if let Some(path) = ca {
            // Report a bad file now, not when something is fetched for the first time.
            let settings = Settings { proxies: Proxies::None, ..outside.settings() };
            Client::new(&settings).map_err(|e| wrong(path.display().to_string(), &e))?;
        }
        Ok(outside)
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            proxies: Proxies::Environment,
            authorities: self.authorities.clone(),
            inner: self.inner.clone(),
            ..Settings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_names_addresses_where_it_was_found_and_others_only_outside() {
        let at = |url: &str| Address::from_document_at("https://index.example/a", url).named_by;
        assert_eq!(at("https://index.example/dl/x"), NamedBy::Operator);
        for url in
            ["https://index.example:8443/x", "http://index.example/x", "https://dl.example/x", "file:///x"]
        {
            assert_eq!(at(url), NamedBy::Outside, "{url}");
        }
    }

    #[test]
    fn what_is_shown_of_an_address_is_no_secret() {
        for (url, shown) in [
            ("https://me:secret@h.example/a?token=b", "https://h.example/a"),
            ("file:///srv/a?b", "file:///srv/a?b"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(Address::from(url.to_owned()).shown(), shown);
        }
    }

    #[test]
    fn what_an_operator_s_addresses_begin_with_is_a_host_and_perhaps_a_path() {
        for (text, base) in [
            ("https://K.example/", Some("https://k.example")),
            ("http://10.0.0.7:8080/keys/", Some("http://10.0.0.7:8080/keys")),
            ("http://[::1]", Some("http://[::1]")),
            ("file:///etc", None),
            ("ftp://k.example", None),
            ("k.example", None),
            ("https://", None),
            ("https://k.example:99999", None),
            ("https://[::1", None),
            ("https://u:p@k.example", None),
            ("https://k.example/?a", None),
            ("https://k.example/#a", None),
            ("https://k.example/a b", None),
        ] {
            assert_eq!(Address::base(text).as_deref(), base, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_asked_through_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "no certificate").unwrap();
        let said = Outside::new(Some(&file), &[]).unwrap_err().to_string();
        assert!(said.contains("ca.pem") && said.contains("no certificate in PEM"), "{said}");
        assert!(Outside::new(Some(&folder.path().join("none.pem")), &[]).is_err());
        let said = Outside::new(None, &["10.0.0.6".to_owned()]).unwrap_err().to_string();
        assert!(said.contains("10.0.0.6") && said.contains("is not like"), "{said}");
        Outside::new(None, &["http://10.0.0.6:9000".to_owned()]).unwrap();
    }
}
