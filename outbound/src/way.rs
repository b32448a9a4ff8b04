//! Connections by one route: kept ones for later requests, and new ones for a request that met a closed one.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Certificate, ClientBuilder};

use crate::resolve::Resolver;
use crate::settings::{BadSettings, Settings};

/// Settings that all connections share.
pub(crate) struct Common {
    authorities: Vec<Certificate>,
    connect: Duration,
    silence: Duration,
}

/// Which proxy connections go through.
pub(crate) enum Route {
    /// No proxy.
    Direct(Resolver),
    /// The proxy that the environment names.
    Environment,
    /// This proxy.
    Proxy(Box<reqwest::Proxy>),
}

/// The HTTP clients of one route. A client reads the machine's whole trust store when it is made, which takes longer
/// than most requests; so each is made when the first request needs it.
pub(crate) struct RouteClients {
    common: Arc<Common>,
    route: Route,
    kept: OnceLock<reqwest::Client>,
    new: OnceLock<reqwest::Client>,
}

/// Which kind of connection a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// A kept one, if there is one.
    Kept,
    /// A new one.
    New,
}

impl Common {
    pub(crate) fn new(settings: &Settings) -> Result<Self, BadSettings> {
        let authorities = match &settings.authorities {
            None => Vec::new(),
            Some(pem) => {
                let all = Certificate::from_pem_bundle(pem).map_err(|_| BadSettings::Authorities)?;
                if all.is_empty() {
                    return Err(BadSettings::Authorities);
                }
                all
            }
        };
        Ok(Self { authorities, connect: settings.connect, silence: settings.silence })
    }

    fn builder(&self) -> ClientBuilder {
        reqwest::Client::builder()
            .user_agent(concat!("hab-build/", env!("CARGO_PKG_VERSION")))
            // Redirects are followed by hand, because a host must not choose any address it likes.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // Repeated by hand, on a connection that is certainly new.
            .retry(reqwest::retry::never())
            // HTTP/1 limits the head's bytes and headers.
            .http1_only()
            .tls_certs_merge(self.authorities.iter().cloned())
            .connect_timeout(self.connect)
            .read_timeout(self.silence)
    }
}

impl RouteClients {
    pub(crate) fn new(common: &Arc<Common>, route: Route) -> Self {
        Self { common: Arc::clone(common), route, kept: OnceLock::new(), new: OnceLock::new() }
    }

    /// The HTTP client for this kind of connection.
    pub(crate) fn client(&self, connection: Connection) -> Result<&reqwest::Client, reqwest::Error> {
        let made = match connection {
            Connection::Kept => &self.kept,
            Connection::New => &self.new,
        };
        if let Some(client) = made.get() {
            return Ok(client);
        }
        let builder = match &self.route {
            Route::Direct(resolver) => self.common.builder().no_proxy().dns_resolver(resolver.clone()),
            Route::Environment => self.common.builder(),
            Route::Proxy(proxy) => self.common.builder().no_proxy().proxy((**proxy).clone()),
        };
        let builder = match connection {
            Connection::Kept => builder,
            Connection::New => builder.pool_max_idle_per_host(0),
        };
        let client = builder.build()?;
        Ok(made.get_or_init(|| client))
    }
}

impl std::fmt::Debug for RouteClients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A proxy's address may hold a password.
        f.write_str("RouteClients(..)")
    }
}
