//! A way out: connections that are kept for the next request, and new ones for a request that met a closed one.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Certificate, ClientBuilder};

use crate::resolve::Resolver;
use crate::settings::{BadSettings, Settings};

/// What every connection has in common.
pub(crate) struct Common {
    authorities: Vec<Certificate>,
    connect: Duration,
    silence: Duration,
}

/// Through whom connections go.
pub(crate) enum Route {
    /// Nobody.
    Direct(Resolver),
    /// Whom the environment names.
    Environment,
    /// This proxy.
    Proxy(Box<reqwest::Proxy>),
}

/// Each client reads the machine's whole trust store when it is made, which takes longer than most requests; so it is
/// made when the first request needs it.
pub(crate) struct Way {
    common: Arc<Common>,
    route: Route,
    kept: OnceLock<reqwest::Client>,
    new: OnceLock<reqwest::Client>,
}

/// Which connection a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// One that was kept, if there is one.
    Kept,
    /// None that anybody used before.
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
            // Followed by hand, because a host must not lead just anywhere.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // Done by hand, on a connection of which it is known that it is new.
            .retry(reqwest::retry::never())
            // Its heads have limits of bytes and of headers.
            .http1_only()
            .tls_certs_merge(self.authorities.iter().cloned())
            .connect_timeout(self.connect)
            .read_timeout(self.silence)
    }
}

impl Way {
    pub(crate) fn new(common: &Arc<Common>, route: Route) -> Self {
        Self { common: Arc::clone(common), route, kept: OnceLock::new(), new: OnceLock::new() }
    }

    /// Who asks on such a connection.
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

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A proxy's address may hold a password.
        f.write_str("Way(..)")
    }
}
