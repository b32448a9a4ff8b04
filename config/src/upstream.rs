//! `[registry.upstream.NAME]`: another registry that is pulled through this one. Plain data; no file is opened here.

use std::path::PathBuf;

use hab_registry::SyncRule;
use hab_store::Pattern;
use serde::Deserialize;

use super::RegistryConfig;

/// Another registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpstreamTable {
    /// Its address: `https://registry.example`.
    pub url: String,
    /// For whom it answers.
    #[serde(default)]
    pub username: Option<String>,
    /// A file whose first line is the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Through whom it is asked: `http://proxy.example:3128`. Variables of the environment do not count.
    #[serde(default)]
    pub proxy: Option<String>,
    /// A file of certificates in PEM of those who vouch for it, beside the machine's own.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The one token service that is asked for it, `https://auth.example`; without, the one that it names first.
    #[serde(default)]
    pub token_service: Option<String>,
    /// Where its redirects may lead though only this machine or its network can reach it: `http://10.0.0.6:9000`.
    #[serde(default)]
    pub inner: Vec<String>,
    /// Which repositories may be pulled, with `*` for anything; all without.
    #[serde(default)]
    pub repositories: Vec<Pattern>,
    /// Nothing may be pulled by tag.
    #[serde(default)]
    pub digest_only: bool,
    /// For how long a tag is what it was: `5m`.
    #[serde(default = "five_minutes")]
    pub ttl: String,
    /// When a tag is looked up again that was looked up longer ago than that: `behind` the answer, or `before` it.
    #[serde(default)]
    pub revalidate: Revalidation,
    /// For how long a pull waits for that, where it is `before`: `3s`. Then it gets what is here.
    #[serde(default = "three_seconds")]
    pub revalidate_within: String,
    /// For how long what it does not have is not asked for again: `10s`.
    #[serde(default = "ten_seconds")]
    pub absent: String,
    /// Tags that stay what they were first, with `*` for anything.
    #[serde(default)]
    pub fixed: Vec<Pattern>,
    /// Who has to have signed what is served.
    #[serde(default)]
    pub signed: Vec<SignedTable>,
    /// What is brought here without being asked for.
    #[serde(default)]
    pub sync: Vec<SyncRule>,
}

/// When a tag is looked up again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revalidation {
    /// Behind the answer: no pull waits, and the next one gets what is newer.
    #[default]
    Behind,
    /// Before the answer: a pull gets the newest, if the upstream answers in time.
    Before,
}

/// Repositories that are served only with signatures.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedTable {
    /// Which, with `*` for anything; all without.
    #[serde(default)]
    pub repositories: Vec<Pattern>,
    /// Files of public keys in PEM.
    pub keys: Vec<PathBuf>,
    /// How many of these keys have to sign.
    #[serde(default = "one")]
    pub threshold: usize,
    /// What name a signature may give the image, without its tag; any without.
    #[serde(default)]
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
    /// What is brought here without being asked for: upstreams' names, and their rules in the order of the file.
    pub fn sync_rules(&self) -> impl Iterator<Item = (&str, &SyncRule)> {
        self.upstream
            .iter()
            .flat_map(|(name, table)| table.sync.iter().map(move |rule| (name.as_str(), rule)))
    }
}
