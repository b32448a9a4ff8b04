//! Who may do what in the registry, TLS, and the rate limit for each client.

use std::path::{Path, PathBuf};

use hab_registry::{AccessConfig, AccessRule, ClientCertificates, Guard, Rate, Tls, TlsConfig};
use serde::Deserialize;

use super::{ConfigError, RegistryConfig};

/// Accounts, and what they may do. If the table exists, even empty, only accounts may write, and tokens of `hab-build
/// registry token issue` are good.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AccessTable {
    /// A file of passwords with one `name:hash` a line, as `htpasswd -B` makes them: bcrypt, or argon2.
    pub htpasswd: Option<PathBuf>,
    /// A file of tokens with one name and the token's sha256 a line, as `hab-build registry token new` makes them.
    pub tokens: Option<PathBuf>,
    /// The address where clients are told to get tokens. Without it, the address that the client used.
    pub url: Option<String>,
    /// Which accounts may do what in which repositories. Without any rule, everybody may pull and accounts may do
    /// everything.
    #[cfg_attr(test, schemars(with = "Vec<crate::schema::AccessRule>"))]
    pub rule: Vec<AccessRule>,
}

/// TLS.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TlsTable {
    /// The certificate in PEM, followed by the certificates of its authorities.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// Certificates in PEM of the authorities for clients. The name in a client's certificate is that of its account.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Revocation lists of these authorities, in PEM or DER: one file, or several. If there is any, every authority
    /// must have one.
    #[serde(default)]
    pub client_crl: Files,
    /// Whether clients must have a certificate.
    #[serde(default)]
    pub client: ClientTable,
}

/// One file, or several.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Files {
    /// `"/etc/hab/clients.crl"`
    One(PathBuf),
    /// `["/etc/hab/a.crl", "/etc/hab/b.crl"]`
    Several(Vec<PathBuf>),
}

impl Default for Files {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ClientTable {
    /// A client may have one.
    #[default]
    Optional,
    /// A client without one is refused.
    Required,
}

/// The rate limit for each client.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LimitTable {
    /// Requests per second.
    pub requests: u32,
    /// How many requests may come at once after a pause. Without it, as many as in five seconds.
    #[serde(default)]
    pub burst: Option<u32>,
}

impl RegistryConfig {
    /// Whether there are accounts of any kind.
    pub fn has_accounts(&self) -> bool {
        self.access.is_some() || self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }

    /// Makes the guard that decides about requests, if there are accounts.
    pub fn guard(&self, data: &Path) -> Result<Option<Guard>, ConfigError> {
        if !self.has_accounts() {
            return Ok(None);
        }
        let AccessTable { htpasswd, tokens, url, rule } = self.access.clone().unwrap_or_default();
        Ok(Some(Guard::open(AccessConfig { data: data.to_owned(), htpasswd, tokens, rules: rule, url })?))
    }

    /// Loads the certificates and the key, if TLS is configured.
    pub fn tls(&self) -> Result<Option<Tls>, ConfigError> {
        let Some(TlsTable { certificate, key, client_ca, client_crl, client }) = self.tls.clone() else {
            return Ok(None);
        };
        if client_ca.is_none() && matches!(client, ClientTable::Required) {
            let problem = "client = \"required\" needs client-ca: nobody vouches for clients";
            return Err(ConfigError::setting("registry.tls", problem));
        }
        let client_crl = match client_crl {
            Files::One(path) => vec![path],
            Files::Several(paths) => paths,
        };
        if client_ca.is_none() && !client_crl.is_empty() {
            let problem = "client-crl needs client-ca: nobody vouches for clients";
            return Err(ConfigError::setting("registry.tls", problem));
        }
        let client = match client {
            ClientTable::Optional => ClientCertificates::Optional,
            ClientTable::Required => ClientCertificates::Required,
        };
        Ok(Some(Tls::open(TlsConfig { certificate, key, client_ca, client_crl, client })?))
    }

    /// The rate limit for each client, if there is one.
    pub fn rate(&self) -> Option<Rate> {
        self.limit.map(|LimitTable { requests, burst }| Rate {
            requests,
            burst: burst.unwrap_or(requests.saturating_mul(5)),
        })
    }
}
