//! Where a redirect may lead. An upstream chooses the address that is asked next, so it must not choose one that only this
//! machine can reach, nor one where others can listen.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::error::Transfer;

/// How many redirects one request follows.
const REDIRECTS: usize = 5;

/// Asks over http and https.
pub(crate) struct Client {
    /// For addresses that a person or a lock named.
    named: ureq::Agent,
    /// For those that a host outside chose: it connects to no inner address, whatever a name resolves to.
    chosen: ureq::Agent,
    hosts: Arc<Hosts>,
}

/// Hosts that were connected to, and whether each had only inner addresses. Once outside is always outside: a name
/// that resolves to something else the next time gains nothing by it.
#[derive(Debug, Default)]
struct Hosts(Mutex<BTreeMap<String, bool>>);

#[derive(Debug)]
struct Watch {
    hosts: Arc<Hosts>,
    chosen: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("{0} has an address that only this machine or its network can reach")]
struct Inner(String);

impl Client {
    pub(crate) fn new(config: &Config) -> Self {
        let hosts = Arc::new(Hosts::default());
        let agent = |chosen| {
            let watch = Watch { hosts: Arc::clone(&hosts), chosen };
            ureq::Agent::with_parts(config.clone(), DefaultConnector::default(), watch)
        };
        Self { named: agent(false), chosen: agent(true), hosts }
    }

    /// The answer at `url`, or where it redirects to; from byte `from` on, if the host does that.
    pub(crate) fn get(&self, url: &str, from: u64) -> Result<ureq::http::Response<ureq::Body>, Transfer> {
        let mut at: Uri = url.parse().map_err(|_| Transfer::Scheme)?;
        let mut agent = &self.named;
        for _ in 0..=REDIRECTS {
            if !matches!(at.scheme_str(), Some("http" | "https")) {
                return Err(Transfer::Scheme);
            }
            let mut request = agent.get(&at).header("Accept-Encoding", "identity");
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|e| match e {
                ureq::Error::Other(e) if e.is::<Inner>() => refused(&at, e.to_string()),
                other => Transfer::Http(other),
            })?;
            let Some(location) = location(&response) else { return Ok(response) };
            let location = location.map_err(|why| refused(&at, why))?;
            let next =
                join(&at, &location).ok_or_else(|| refused(&at, format!("{location:?} is no address")))?;
            permitted(&at, &next)?;
            let inner =
                self.hosts.0.lock().unwrap_or_else(PoisonError::into_inner).get(host(&at)) == Some(&true);
            if !inner {
                agent = &self.chosen;
                // Through a proxy no name is resolved here; what can be told by its looks is told anyhow.
                if looks_inner(host(&next)) {
                    return Err(refused(&next, Inner(host(&next).to_owned()).to_string()));
                }
            }
            at = next;
        }
        Err(refused(&at, format!("it is the {}th redirect in a row", REDIRECTS + 1)))
    }
}

fn refused(to: &Uri, why: impl Into<String>) -> Transfer {
    Transfer::Redirect { to: to.to_string(), why: why.into() }
}

impl Resolver for Watch {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let host = host(uri);
        // The operator's own proxy may be anywhere.
        let proxy = config.proxy().is_some_and(|proxy| proxy.host() == host && !proxy.is_no_proxy(uri));
        if self.chosen && !proxy && found.iter().any(|address| is_inner(address.ip())) {
            return Err(ureq::Error::Other(Box::new(Inner(host.to_owned()))));
        }
        let inner = found.iter().all(|address| is_inner(address.ip()));
        let mut hosts = self.hosts.0.lock().unwrap_or_else(PoisonError::into_inner);
        *hosts.entry(host.to_owned()).or_insert(true) &= inner;
        Ok(found)
    }
}

/// Where an answer redirects to, if it does.
fn location(response: &ureq::http::Response<ureq::Body>) -> Option<Result<String, &'static str>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get("location").ok_or("it does not say where to");
    Some(location.and_then(|l| l.to_str().map(str::to_owned).map_err(|_| "where to is not plain text")))
}

/// The address that `location` names, seen from `base` (RFC 3986, section 5.2; dot segments are for the host to refuse).
fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let has_scheme = location.split(['/', '?']).next().is_some_and(|start| start.contains(':'));
    let whole = if has_scheme {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') || location.is_empty() {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    whole.parse().ok()
}

/// Whether the one address may name the other, as far as their schemes say.
fn permitted(from: &Uri, to: &Uri) -> Result<(), Transfer> {
    match (from.scheme_str(), to.scheme_str()) {
        (Some("https"), Some("http")) => Err(refused(to, "it is not encrypted, and the address before was")),
        (_, Some("http" | "https")) if !host(to).is_empty() => Ok(()),
        _ => Err(refused(to, "it is neither http nor https")),
    }
}

fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default()
}

fn looks_inner(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    literal.is_ok_and(is_inner)
        || host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
}

/// Whether an address is not the public internet's: IANA's special-purpose registries, RFC 6890.
fn is_inner(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_inner_v4(v4),
        IpAddr::V6(v6) => {
            let [first, second, .., last_but_one, last] = v6.segments();
            let [a, b] = last_but_one.to_be_bytes();
            let [c, d] = last.to_be_bytes();
            v6 == Ipv6Addr::LOCALHOST
                || v6 == Ipv6Addr::UNSPECIFIED
                || v6.is_multicast()
                || first & 0xfe00 == 0xfc00 // unique local
                || first & 0xff80 == 0xfe80 // link-local, and the old site-local
                || (first == 0x0064 && second == 0xff9b && is_inner_v4(Ipv4Addr::new(a, b, c, d))) // NAT64
        }
    }
}

fn is_inner_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || a == 0
        || a >= 240 // reserved, and broadcast
        || (a == 100 && b & 0xc0 == 64) // shared by carriers
        || (a == 198 && b & 0xfe == 18) // benchmarks
        || (a == 192 && b == 0 && address.octets()[2] == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_only_this_network_can_reach_is_known() {
        for inner in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
        ] {
            assert!(is_inner(inner.parse().unwrap()), "{inner}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "64:ff9b::101:101"] {
            assert!(!is_inner(public.parse().unwrap()), "{public}");
        }
        for inner in ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "[::1]"] {
            assert!(looks_inner(inner), "{inner}");
        }
        assert!(!looks_inner("localhost.example"));
    }

    #[test]
    fn a_redirect_keeps_to_http_and_to_encryption() {
        for (from, to, good) in [
            ("http://a.invalid/", "http://b.invalid/", true),
            ("http://a.invalid/", "https://b.invalid/", true),
            ("https://a.invalid/", "https://b.invalid/", true),
            ("https://a.invalid/", "http://b.invalid/", false),
            ("http://a.invalid/", "ftp://b.invalid/", false),
            ("http://a.invalid/", "file:///etc/passwd", false),
        ] {
            let next = join(&uri(from), to);
            assert_eq!(next.is_some_and(|next| permitted(&uri(from), &next).is_ok()), good, "{from} {to}");
        }
    }

    #[test]
    fn where_a_redirect_leads_is_seen_from_where_it_came() {
        let base = uri("https://host.invalid:8/a/b?c");
        for (location, whole) in [
            ("d", "https://host.invalid:8/a/d"),
            ("/d?e", "https://host.invalid:8/d?e"),
            ("?e", "https://host.invalid:8/a/b?e"),
            ("//other.invalid/d", "https://other.invalid/d"),
            ("http://other.invalid/d#e", "http://other.invalid/d"),
            ("d?at=12:00", "https://host.invalid:8/a/d?at=12:00"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), whole, "{location}");
        }
    }

    /// A client that answers every request with a redirect to `to`, asked as if `host` had been outside or not.
    fn redirected(to: &str, outside: bool) -> Result<u16, Transfer> {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = to.replace("PORT", &port.to_string());
        std::thread::spawn(move || {
            for (at, stream) in listener.incoming().flatten().enumerate() {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 4096]);
                let head = if at == 0 { format!("302 Found\r\nLocation: {to}") } else { "200 OK".to_owned() };
                let _ = write!(stream, "HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        let config =
            ureq::Agent::config_builder().proxy(None).max_redirects(0).http_status_as_error(false).build();
        let client = Client::new(&config);
        if outside {
            // As if the name had resolved to a public address first.
            client.hosts.0.lock().unwrap().insert("127.0.0.1".to_owned(), false);
        }
        client.get(&format!("http://127.0.0.1:{port}/"), 0).map(|answer| answer.status().as_u16())
    }

    #[test]
    fn a_host_outside_cannot_lead_in_by_address_or_by_name() {
        for to in ["http://127.0.0.1:PORT/x", "http://localhost:PORT/x", "http://[::1]:PORT/x", "/x"] {
            let error = redirected(to, true).unwrap_err();
            assert!(error.to_string().contains("can reach"), "{to}: {error}");
        }
        // A name that does not look like it: the resolver is what refuses it.
        let error = redirected("http://2130706433:PORT/x", true).unwrap_err();
        assert!(error.to_string().contains("can reach"), "{error}");
    }

    #[test]
    fn a_host_within_may_lead_to_another_within() {
        for to in ["http://127.0.0.1:PORT/x", "http://localhost:PORT/x", "/x"] {
            assert_eq!(redirected(to, false).unwrap(), 200, "{to}");
        }
    }
}
