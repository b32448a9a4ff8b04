//! What an operator says of the way outside. Plain data.

use std::time::Duration;

use crate::Origin;

/// How hosts outside are asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long a host may stay silent.
    pub silence: Duration,
    /// Through whom.
    pub proxies: Proxies,
    /// Certificates in PEM of those who vouch for hosts, beside the machine's own trust store.
    pub authorities: Option<Vec<u8>>,
    /// Origins at inner addresses where redirects and documents from outside may lead.
    pub inner: Vec<Origin>,
}

/// Through whom hosts are asked. Through a proxy no name is resolved here, so an inner address is known there by its
/// looks only: what else the proxy may reach is the proxy's to say.
#[derive(Clone, PartialEq, Eq)]
pub enum Proxies {
    /// Directly, whatever the environment says.
    None,
    /// By `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in either case.
    Environment,
    /// Through this one: `http://user:password@proxy.example:3128`.
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

/// Settings that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// The proxy's address; it may hold a password, so it is not repeated.
    #[error("its proxy is not like http://proxy.example:3128")]
    Proxy,
    /// A variable of the environment.
    #[error("{0} is not like http://proxy.example:3128")]
    Variable(&'static str),
    /// The certificates.
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
