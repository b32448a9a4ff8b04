//! Who may do what in the registry, TLS, and how often one client may ask.

use std::path::{Path, PathBuf};

use hab_registry::{AccessConfig, AccessRule, ClientCertificates, Guard, Rate, Tls, TlsConfig};
use serde::Deserialize;

use super::{ConfigError, RegistryConfig};

/// Accounts, and what they may do. That the table is there, even empty, means that there are accounts: then only they may
/// write, and tokens of `hab-build registry token issue` are good.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessTable {
    /// A file of passwords, `name:hash` a line, as `htpasswd -B` makes them: bcrypt, or argon2.
    pub htpasswd: Option<PathBuf>,
    /// A file of tokens, a name and the token's sha256 a line, as `hab-build registry token new` makes them.
    pub tokens: Option<PathBuf>,
    /// The address that clients are told to get tokens from; without, the one that they came by.
    pub url: Option<String>,
    /// Who may do what, where; without any, everybody may pull and accounts may do everything.
    pub rule: Vec<AccessRule>,
}

/// TLS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TlsTable {
    /// The certificate in PEM, and those that vouch for it after it.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// Certificates in PEM of those who vouch for clients: the name in a client's certificate is its account's.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Lists of what these authorities revoked, in PEM or DER: a file, or several. With any, one of every authority is needed.
    #[serde(default)]
    pub client_crl: Files,
    /// Whether clients must have a certificate.
    #[serde(default)]
    pub client: ClientTable,
}

/// One file or several.
#[derive(Clone, Debug, Deserialize)]
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
#[serde(rename_all = "kebab-case")]
pub enum ClientTable {
    /// They may.
    #[default]
    Optional,
    /// Who has none is not talked to.
    Required,
}

/// How often one client may ask.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitTable {
    /// Requests a second.
    pub requests: u32,
    /// Requests at once after a rest; without, five seconds' worth.
    #[serde(default)]
    pub burst: Option<u32>,
}

impl RegistryConfig {
    /// Whether there is any kind of account.
    pub fn has_accounts(&self) -> bool {
        self.access.is_some() || self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }

    /// What decides about requests, where there are accounts.
    pub fn guard(&self, data: &Path) -> Result<Option<Guard>, ConfigError> {
        if !self.has_accounts() {
            return Ok(None);
        }
        let AccessTable { htpasswd, tokens, url, rule } = self.access.clone().unwrap_or_default();
        Ok(Some(Guard::open(AccessConfig { data: data.to_owned(), htpasswd, tokens, rules: rule, url })?))
    }

    /// What TLS needs, where it is wanted.
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

    /// How often one client may ask, where that is limited.
    pub fn rate(&self) -> Option<Rate> {
        self.limit.map(|LimitTable { requests, burst }| Rate {
            requests,
            burst: burst.unwrap_or(requests.saturating_mul(5)),
        })
    }
}
