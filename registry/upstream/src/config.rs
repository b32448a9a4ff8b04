//! The operator's settings of an upstream.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hab_store::Pattern;

use crate::judge::ImageJudge;

/// The settings of another registry. Plain data.
#[derive(Clone)]
pub struct UpstreamConfig {
    /// The first part of its images' names here: `docker.io`. One part of a repository's name.
    pub name: String,
    /// Its address: `https://registry.example`.
    pub url: String,
    /// The account to authenticate with.
    pub username: Option<String>,
    /// The account's password.
    pub password: Option<String>,
    /// The proxy to ask it through: `http://proxy.example:3128`. Proxy variables of the environment are ignored.
    pub proxy: Option<String>,
    /// Certificates in PEM of further authorities to trust for it, beside the machine's own trust store.
    pub ca: Option<Vec<u8>>,
    /// Its only token service, `https://auth.example`; without one, the token service that it names first.
    pub token_service: Option<String>,
    /// Inner addresses that its redirects may lead to: `http://10.0.0.6:9000`.
    pub inner: Vec<String>,
    /// A folder for the pins of token services; without one, a pin is forgotten with the process.
    pub pins: Option<PathBuf>,
    /// Which of its repositories may be pulled; all if empty.
    pub repositories: Vec<Pattern>,
    /// Whether pulls are allowed by digest only, not by tag.
    pub digest_only: bool,
    /// How long a tag that was looked up counts as fresh.
    pub ttl: Duration,
    /// How a pull of a tag that is no longer fresh is answered.
    pub revalidate: Revalidate,
    /// How long the upstream is not asked again for what it does not have.
    pub absent: Duration,
    /// Tags that never move here.
    pub fixed: Vec<Pattern>,
    /// Who must have signed what is served. Every rule that names a repository must be met.
    pub signed: Vec<Signed>,
    /// It is never asked; stored content is served by the same rules.
    pub offline: bool,
    /// How long to wait for it.
    pub patience: Patience,
}

/// When a tag is looked up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Revalidate {
    /// After the answer: a client gets what is here, and the next client what came of the look-up. No pull waits for
    /// the upstream.
    #[default]
    Behind,
    /// Before the answer, for at most this time. After it, or if the upstream is away, a client gets what is here, and
    /// the answer is marked as stale.
    Before(Duration),
}

/// Repositories that are served only if they are signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Which repositories; all if empty.
    pub repositories: Vec<Pattern>,
    /// Says whether signatures suffice.
    pub judge: Arc<dyn ImageJudge>,
}

/// How long to wait for an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long it may stay silent.
    pub silence: Duration,
    /// How long a manifest, a list or a token may take altogether.
    pub small: Duration,
    /// How long a blob may take, in addition to its size divided by `slowest`.
    pub large: Duration,
    /// The lowest speed of a blob that is accepted, in bytes a second.
    pub slowest: u64,
    /// How long an upstream is not asked again that did not answer, or that limits requests without saying for how
    /// long.
    pub rest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(30),
            small: Duration::from_secs(60),
            large: Duration::from_secs(60),
            slowest: 20 * 1024,
            rest: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for UpstreamConfig {
    /// Shows only its name and address: the password, and the proxy's address with its secrets, must never be printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UpstreamConfig");
        shown.field("name", &self.name).field("address", &self.address()).finish_non_exhaustive()
    }
}

impl UpstreamConfig {
    /// Settings of an upstream without an account, of which everything may be pulled.
    pub fn new(name: &str, url: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            username: None,
            password: None,
            proxy: None,
            ca: None,
            token_service: None,
            inner: Vec::new(),
            pins: None,
            repositories: Vec::new(),
            digest_only: false,
            ttl: Duration::from_secs(5 * 60),
            revalidate: Revalidate::Behind,
            absent: Duration::from_secs(10),
            fixed: Vec::new(),
            signed: Vec::new(),
            offline: false,
            patience: Patience::default(),
        }
    }

    /// Its address, without anything in it that may be secret. The catalog remembers by it who sent a blob.
    pub(crate) fn address(&self) -> String {
        match hab_outbound::Url::parse(&self.url) {
            Ok(url) => {
                format!("{}{}", url.origin().ascii_serialization(), url.path().trim_end_matches('/'))
            }
            Err(_) => self.name.clone(),
        }
    }
}
