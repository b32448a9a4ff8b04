//! The client at the other end of a connection, as far as the connection shows it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, header};

use super::account::Account;
use super::certificate::Certificate;

/// What a connection knows of its client. Every request has it in its extensions, behind an [`Arc`].
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// The connection uses TLS.
    pub(crate) secure: bool,
    /// The client's certificate, if it names an account.
    pub(crate) certificate: Option<Certificate>,
}

impl Peer {
    /// The peer of a request. It is unknown if a program serves the router by itself.
    pub(crate) fn of(extensions: &Extensions) -> Arc<Self> {
        let unknown = || Self { address: Ipv4Addr::UNSPECIFIED.into(), secure: false, certificate: None };
        extensions.get::<Arc<Self>>().cloned().unwrap_or_else(|| Arc::new(unknown()))
    }
}

/// The client that was answered, for the metrics and the access log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    /// The account, if the client showed valid credentials.
    pub(crate) name: Option<Account>,
}

/// The address that a client knows this service by, without a slash at its end: `https://farm.example:5000`. `None` if
/// the `Host` header cannot safely be repeated to the client.
pub(crate) fn origin(headers: &HeaderMap, peer: &Peer) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(plain) {
        return None;
    }
    // `forwarded` replaced these headers by true ones when the request came in.
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scheme = if peer.secure || said("x-forwarded-proto") == "https" { "https" } else { "http" };
    Some(format!("{scheme}://{host}{}", said("x-forwarded-prefix")))
}
