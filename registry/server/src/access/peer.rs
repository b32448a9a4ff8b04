//! Who is at the other end of a connection, as far as the connection says it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, header};

use super::account::Account;
use super::certificate::Certificate;

/// What a connection knows of its client. In every request's extensions, behind an [`Arc`].
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// It speaks TLS with us.
    pub(crate) secure: bool,
    /// Its certificate, if that names somebody.
    pub(crate) certificate: Option<Certificate>,
}

impl Peer {
    /// Where the router is served by somebody else, nothing is known.
    pub(crate) fn of(extensions: &Extensions) -> Arc<Self> {
        let unknown = || Self { address: Ipv4Addr::UNSPECIFIED.into(), secure: false, certificate: None };
        extensions.get::<Arc<Self>>().cloned().unwrap_or_else(|| Arc::new(unknown()))
    }
}

/// Who was answered, for whoever counts or logs them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    /// The account, if one was shown that is good.
    pub(crate) name: Option<Account>,
}

/// The address that a client knows this service by, without a slash at its end: `https://farm.example:5000`. `None`
/// where it does not say one that could be told back to it.
pub(crate) fn origin(headers: &HeaderMap, peer: &Peer) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(plain) {
        return None;
    }
    // Made true when the request came in (`forwarded`).
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scheme = if peer.secure || said("x-forwarded-proto") == "https" { "https" } else { "http" };
    Some(format!("{scheme}://{host}{}", said("x-forwarded-prefix")))
}
