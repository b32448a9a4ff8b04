//! `[registry.upstream.NAME]`: another registry that is pulled through this one. Plain data; no file is opened here.

use std::path::PathBuf;

use hab_registry::SyncRule;
use hab_store::Pattern;
use serde::Deserialize;

use super::RegistryConfig;

/// Another registry that is pulled through this one.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpstreamTable {
    /// Its address: `https://registry.example`.
    pub url: String,
    /// The user name to log in with.
    #[serde(default)]
    pub username: Option<String>,
    /// A file whose first line is the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The proxy through which it is asked: `http://proxy.example:3128`. Environment variables do not count.
    #[serde(default)]
    pub proxy: Option<String>,
    /// A file of PEM certificates of authorities for it, in addition to the machine's own.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The only token service to ask for it, `https://auth.example`. Without it, the one that it names first.
    #[serde(default)]
    pub token_service: Option<String>,
    /// Addresses that only this machine or its network can reach and to which it may nevertheless redirect:
    /// `http://10.0.0.6:9000`.
    #[serde(default)]
    pub inner: Vec<String>,
    /// Which repositories may be pulled, with `*` for any text. Without any, all may.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<crate::schema::Pattern>"))]
    pub repositories: Vec<Pattern>,
    /// Whether pulling by tag is forbidden.
    #[serde(default)]
    pub digest_only: bool,
    /// How long a tag is believed to be unchanged: `5m`.
    #[serde(default = "five_minutes")]
    pub ttl: String,
    /// When to look up a tag that is older than that: `behind` the answer, or `before` it.
    #[serde(default)]
    pub revalidate: Revalidation,
    /// How long a pull waits for the lookup, if it is `before` the answer: `3s`. Then the pull gets what is here.
    #[serde(default = "three_seconds")]
    pub revalidate_within: String,
    /// How long the upstream is not asked again for something that it does not have: `10s`.
    #[serde(default = "ten_seconds")]
    pub absent: String,
    /// Tags that never change after they are first pulled, with `*` for any text.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<crate::schema::Pattern>"))]
    pub fixed: Vec<Pattern>,
    /// Whose signatures the served images must have.
    #[serde(default)]
    pub signed: Vec<SignedTable>,
    /// Images that are synced without being asked for.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<crate::schema::SyncRule>"))]
    pub sync: Vec<SyncRule>,
}

/// When a tag is looked up again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Revalidation {
    /// Behind the answer: no pull waits, and the next pull gets the newer image.
    #[default]
    Behind,
    /// Before the answer: a pull gets the newest image, if the upstream answers in time.
    Before,
}

/// Repositories that are served only with signatures.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SignedTable {
    /// Which repositories, with `*` for any text. Without any, all.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<crate::schema::Pattern>"))]
    pub repositories: Vec<Pattern>,
    /// Files of public keys in PEM.
    pub keys: Vec<PathBuf>,
    /// How many of these keys must have signed.
    #[serde(default = "one")]
    pub threshold: usize,
    /// The names that a signature may give the image, without its tag. Without any, every name is allowed.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<crate::schema::Pattern>"))]
    pub identity: Vec<Pattern>,
}

fn one() -> usize {
    1
}

fn five_minutes() -> String {
    "5m".to_owned()
}

fn three_seconds() -> String {
    "3s".to_owned()
}

fn ten_seconds() -> String {
    "10s".to_owned()
}

impl RegistryConfig {
    /// The sync rules, each with its upstream's name, in the order of the file.
    pub fn sync_rules(&self) -> impl Iterator<Item = (&str, &SyncRule)> {
        self.upstream
            .iter()
            .flat_map(|(name, table)| table.sync.iter().map(move |rule| (name.as_str(), rule)))
    }
}
