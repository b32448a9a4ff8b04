//! The address by which a client knows this service, and the client's own address, behind a proxy.
//!
//! Anybody can write the headers that state these (`X-Forwarded-For`, `-Host`, `-Proto`, `-Prefix`). So they are
//! trusted only if they come from a proxy that the operator names. They are corrected before anything reads them:
//! afterwards `Host`, `X-Forwarded-Proto` and `X-Forwarded-Prefix` state the address of this service, and the other
//! headers are gone. In a list, each proxy's own entry is the last one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::Network;
use crate::access::{AccessError, plain_url};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The longest host, or path before all of this service's paths, in characters.
const LONGEST: usize = 200;

/// The proxies before this service, and the address that clients know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front {
    url: Option<Address>,
    proxies: Vec<Network>,
}

/// The parts of the address that clients know.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    secure: bool,
    host: HeaderValue,
    prefix: Option<HeaderValue>,
}

impl Front {
    /// `url` is the address that clients know this service by, whatever a request says: `https://farm.example/mirror`.
    /// The headers of `proxies` are trusted.
    pub fn new(url: Option<&str>, proxies: Vec<Network>) -> Result<Self, AccessError> {
        let url =
            url.map(|text| plain_url(text).and_then(|url| Address::of(&url).ok_or(AccessError::Url(url))));
        Ok(Self { url: url.transpose()?, proxies })
    }

    /// Corrects the headers of a request that came from `from`; returns the client's address.
    pub(crate) fn correct(&self, from: IpAddr, secure: bool, headers: &mut HeaderMap) -> IpAddr {
        let believed = self.is_proxy(from);
        let client = if believed { self.client(from, headers) } else { from };
        let said = |name: &HeaderName| believed.then(|| last(headers, name)).flatten();
        let address = self.url.clone().unwrap_or_else(|| Address {
            secure: secure || said(&PROTO).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: said(&HOST)
                .and_then(host)
                .or_else(|| headers.get(header::HOST).cloned())
                .unwrap_or_else(|| HeaderValue::from_static("")),
            prefix: said(&PREFIX).and_then(prefix),
        });
        for name in [&FOR, &HOST, &PROTO, &PREFIX, &header::FORWARDED] {
            headers.remove(name);
        }
        headers.insert(header::HOST, address.host);
        if address.secure {
            headers.insert(PROTO, HeaderValue::from_static("https"));
        }
        if let Some(prefix) = address.prefix {
            headers.insert(PREFIX, prefix);
        }
        client
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.has(address))
    }

    /// The nearest address that is not a trusted proxy's. Its owner could have made up all addresses before it.
    fn client(&self, from: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = from;
        let values: Vec<_> = headers.get_all(&FOR).iter().collect();
        for value in values.into_iter().rev() {
            let Ok(value) = value.to_str() else { return client };
            for hop in value.rsplit(',') {
                let Some(address) = address(hop.trim()) else { return client };
                client = address;
                if !self.is_proxy(address) {
                    return client;
                }
            }
        }
        client
    }
}

impl Address {
    fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let prefix = if path.is_empty() { None } else { Some(prefix(path)?) };
        Some(Self { secure: scheme == "https", host: HeaderValue::from_str(host).ok()?, prefix })
    }
}

/// The entry of the nearest proxy, which is the last one.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
}

/// Parses an address as proxies write it: some add a port, and then an IPv6 address is in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Checks a host with an optional port, before clients are given it: `farm.example:8443`.
fn host(text: &str) -> Option<HeaderValue> {
    let authority: Authority = text.parse().ok()?;
    let port = authority.as_str().strip_prefix(authority.host())?;
    let port = port.strip_prefix(':').map_or(port.is_empty(), |port| port.parse::<u16>().is_ok());
    let name = authority.host();
    let plain = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let good = match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.len() <= LONGEST && name.split('.').all(plain),
    };
    (good && port).then(|| HeaderValue::from_str(text).ok()).flatten()
}

/// Checks a path before clients are given it: `/mirror`. They get it within documents, so no character may have a
/// meaning there.
fn prefix(path: &str) -> Option<HeaderValue> {
    let path = path.trim_end_matches('/');
    let plain = |part: &str| {
        let odd = part.is_empty() || part == "." || part == "..";
        !odd && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    let good = path.len() <= LONGEST && path.strip_prefix('/').is_some_and(|path| path.split('/').all(plain));
    good.then(|| HeaderValue::from_str(path).ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.1";

    #[test]
    fn a_host_that_a_proxy_says_is_a_host() {
        for good in [
            "farm",
            "farm.example",
            "farm.example:8443",
            "10.0.0.9:80",
            "[::1]",
            "[2001:db8::1]:443",
            "a_b.c",
        ] {
            assert_eq!(host(good).unwrap(), good);
        }
        let long = "h".repeat(300);
        for bad in [
            "", "evil/x", "[::1", "..", "a..b", "h:99999", "h:", "u@h", "a b", "a?b", "a#b", "[x]", "\"",
            &long,
        ] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }

    fn front(url: Option<&str>) -> Front {
        Front::new(url, vec!["10.0.0.0/24".parse().unwrap()]).unwrap()
    }

    /// Scheme, host, prefix and client after the headers were corrected.
    fn seen(front: &Front, from: &str, said: &[(&'static str, &str)]) -> (String, String) {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("farm:5000"));
        for (name, value) in said {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let client = front.correct(from.parse().unwrap(), false, &mut headers);
        let text = |name: &HeaderName| headers.get(name).map_or("", |value| value.to_str().unwrap());
        let scheme = if text(&PROTO).is_empty() { "http" } else { text(&PROTO) };
        assert!(
            !headers.contains_key(FOR) && !headers.contains_key(HOST) && !headers.contains_key("forwarded")
        );
        (format!("{scheme}://{}{}", text(&header::HOST), text(&PREFIX)), client.to_string())
    }

    #[test]
    fn a_proxy_is_believed_and_nobody_else() {
        let said = [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "farm.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/mirror/"),
            ("forwarded", "for=192.0.2.9"),
        ];
        let (url, client) = seen(&front(None), PROXY, &said);
        assert_eq!((url.as_str(), client.as_str()), ("https://farm.example/mirror", "192.0.2.7"));
        let (url, client) = seen(&front(None), "10.0.1.1", &said);
        assert_eq!((url.as_str(), client.as_str()), ("http://farm:5000", "10.0.1.1"));
    }

    #[test]
    fn what_a_client_wrote_itself_does_not_count_behind_a_proxy_either() {
        for (said, wanted) in [
            (vec!["1.1.1.1, 192.0.2.7"], "192.0.2.7"),
            (vec!["1.1.1.1", "192.0.2.7, 10.0.0.2"], "192.0.2.7"),
            (vec!["1.1.1.1, nonsense, 10.0.0.2"], "10.0.0.2"),
            (vec!["nonsense"], PROXY),
            (vec![""], PROXY),
            (vec!["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            (vec!["1.1.1.1, 192.0.2.7:4711"], "192.0.2.7"),
            (vec!["1.1.1.1, [2001:db8::7]:4711"], "2001:db8::7"),
            (vec!["[2001:db8::7]"], "2001:db8::7"),
        ] {
            let said: Vec<_> = said.into_iter().map(|value| ("x-forwarded-for", value)).collect();
            assert_eq!(seen(&front(None), PROXY, &said).1, wanted, "{said:?}");
        }
        let said = [("x-forwarded-host", "evil.example, farm.example"), ("x-forwarded-proto", "https, http")];
        assert_eq!(seen(&front(None), PROXY, &said).0, "http://farm.example");
    }

    #[test]
    fn an_address_in_the_configuration_is_the_address() {
        let front = front(Some("https://farm.example/mirror/"));
        let said = [("x-forwarded-host", "other.example"), ("x-forwarded-prefix", "/other")];
        for from in [PROXY, "192.0.2.1"] {
            assert_eq!(seen(&front, from, &said).0, "https://farm.example/mirror");
        }
        for bad in
            ["farm.example", "https://", "https://farm.example/a b", "https://farm.example/../x", "ftp://x"]
        {
            assert!(Front::new(Some(bad), Vec::new()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_that_means_something_else_in_a_document_is_not_told() {
        for bad in ["mirror", "//evil.example", "/a/../b", "/{crate}", "/a\"b", "/a?b", "/"] {
            assert_eq!(
                seen(&front(None), PROXY, &[("x-forwarded-prefix", bad)]).0,
                "http://farm:5000",
                "{bad}"
            );
        }
        assert!(seen(&front(None), PROXY, &[("x-forwarded-prefix", "/a/b-c")]).0.ends_with("/a/b-c"));
    }
}
