//! What an operator sets about requests to hosts outside. Plain data.

use std::time::Duration;

use crate::Origin;

/// How requests to hosts outside are sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The longest time for connecting.
    pub connect: Duration,
    /// The longest time for which a host may send nothing.
    pub silence: Duration,
    /// Which proxy to use.
    pub proxies: Proxies,
    /// PEM certificates of further authorities to trust, besides the machine's own trust store.
    pub authorities: Option<Vec<u8>>,
    /// Origins at inner addresses to which redirects and documents from outside may lead.
    pub inner: Vec<Origin>,
}

/// Which proxy requests go through. The proxy resolves names, so this program recognises an inner address only by its
/// spelling; the proxy decides what else can be reached.
#[derive(Clone, PartialEq, Eq)]
pub enum Proxies {
    /// No proxy, whatever the environment says.
    None,
    /// The proxies in `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in lower or upper case.
    Environment,
    /// This proxy for everything: `http://user:password@proxy.example:3128`.
    At(String),
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Environment => "Environment",
            // The address may hold a password.
            Self::At(_) => "At(..)",
        })
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// The proxy's address; not repeated, because it may hold a password.
    #[error("its proxy is not like http://proxy.example:3128")]
    Proxy,
    /// An environment variable is not a proxy's address.
    #[error("{0} is not like http://proxy.example:3128")]
    Variable(&'static str),
    /// The file of authorities holds no certificate.
    #[error("there is no certificate in PEM in its ca file")]
    Authorities,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            silence: Duration::from_secs(60),
            proxies: Proxies::None,
            authorities: None,
            inner: Vec::new(),
        }
    }
}
