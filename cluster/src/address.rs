//! Whether an address is the farm's.

use crate::Registry;

impl Registry {
    /// `farm:5000`
    pub(crate) fn host(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, host)| host).trim_end_matches('/')
    }

    pub(crate) fn insecure(&self) -> bool {
        self.url.starts_with("http://")
    }

    pub(crate) fn address(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    /// Whether an address is the farm's. Says no to an address that another program could read differently: one with a
    /// user, a query or an escape.
    pub(crate) fn is_here(&self, address: &str) -> bool {
        let address = address.trim_end_matches('/');
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, address),
        };
        if scheme.as_deref().is_some_and(|scheme| scheme != "http" && scheme != "https") {
            return false;
        }
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty() || host.contains(['@', '?', '#', '\\', '%', ' ', '\t']) {
            return false;
        }
        let here = self.host();
        let literally = host.eq_ignore_ascii_case(here);
        match scheme {
            // Without a port the scheme decides the port, and another port may be another registry.
            Some(scheme) => {
                let ours = if self.insecure() { "http" } else { "https" };
                with_port(host, &scheme) == with_port(here, ours)
            }
            None => literally,
        }
    }
}

fn with_port(host: &str, scheme: &str) -> String {
    let host = host.to_ascii_lowercase();
    // `[::1]:5000`: the text in brackets has colons too.
    let has_port = host.rsplit_once(':').is_some_and(|(before, port)| {
        port.bytes().all(|b| b.is_ascii_digit()) && (!before.contains(':') || before.ends_with(']'))
    });
    match (has_port, scheme) {
        (true, _) => host,
        (false, "http") => host + ":80",
        (false, _) => host + ":443",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_only_looks_like_the_farms_is_not_the_farms() {
        let farm = |url: &str| Registry { url: url.to_owned(), upstreams: Vec::new(), authority: None };
        let here = farm("http://farm:5000");
        for good in [
            "http://farm:5000",
            "HTTP://Farm:5000/v2",
            "farm:5000",
            "https://farm:5000/",
            "farm:5000/docker.io",
        ] {
            assert!(here.is_here(good), "{good}");
        }
        for bad in [
            "http://farm",
            "farm",
            "farm:5001",
            "http://farm:5000@evil.example",
            "http://evil.example/farm:5000",
            "http://evil.example?farm:5000",
            "http://farm:5000#@evil.example",
            "farm:5000.evil.example",
            "ftp://farm:5000",
            "",
        ] {
            assert!(!here.is_here(bad), "{bad}");
        }
        assert!(farm("https://farm").is_here("https://farm:443/v2"));
        assert!(!farm("https://farm").is_here("http://farm"));
        assert!(farm("http://[::1]:5000").is_here("http://[::1]:5000/v2"));
    }
}
