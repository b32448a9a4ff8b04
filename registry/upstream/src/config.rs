//! What an operator says of an upstream.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hab_store::Pattern;

use crate::judge::Judge;

/// Another registry. Plain data.
#[derive(Clone)]
pub struct UpstreamConfig {
    /// What its images are named by: `docker.io`. One part of a repository's name.
    pub name: String,
    /// Where it is: `https://registry.example`.
    pub url: String,
    /// For whom it answers.
    pub username: Option<String>,
    /// Goes with the name.
    pub password: Option<String>,
    /// Through whom it is asked: `http://proxy.example:3128`. What the environment says of proxies is not looked at.
    pub proxy: Option<String>,
    /// Certificates in PEM of those who vouch for it, beside the machine's own trust store.
    pub ca: Option<Vec<u8>>,
    /// The one token service that is asked for it, `https://auth.example`; without, the one that it names first.
    pub token_service: Option<String>,
    /// Where its redirects may lead though it is an inner address: `http://10.0.0.6:9000`.
    pub inner: Vec<String>,
    /// A folder that remembers which token service it named first; without, that is forgotten with the process.
    pub pins: Option<PathBuf>,
    /// Which of its repositories may be pulled; all without.
    pub repositories: Vec<Pattern>,
    /// Tags may not be pulled, only digests.
    pub digest_only: bool,
    /// For how long a tag is what it was.
    pub ttl: Duration,
    /// What becomes of a pull of a tag that was looked up longer ago than that.
    pub revalidate: Revalidate,
    /// For how long what it does not have is not asked for again.
    pub absent: Duration,
    /// Tags that stay what they were first.
    pub fixed: Vec<Pattern>,
    /// Who has to have signed what is served. Every rule that names a repository has to be met.
    pub signed: Vec<Signed>,
    /// It is never asked; what is here is served by the same rules.
    pub offline: bool,
    /// How long is waited for it.
    pub patience: Patience,
}

/// When a tag is looked up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Revalidate {
    /// Behind the answer: a client gets what is here, and the next one what is there by then. No pull waits for the
    /// upstream.
    #[default]
    Behind,
    /// Before the answer, for so long: then, and when the upstream is away, a client gets what is here, which the
    /// answer calls stale.
    Before(Duration),
}

/// Repositories of which only what is signed is served.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Which; all without.
    pub repositories: Vec<Pattern>,
    /// Who says whether a signature counts.
    pub judge: Arc<dyn Judge>,
}

/// How long an upstream is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long it may stay silent.
    pub silence: Duration,
    /// How long a manifest, a list or a token may take altogether.
    pub small: Duration,
    /// How long a blob may take, beside its size by `slowest`.
    pub large: Duration,
    /// The slowest blob that is waited for, in bytes a second.
    pub slowest: u64,
    /// For how long one that does not answer, or is limiting without saying for how long, is not asked again.
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
    /// Its name and address alone: the password, and what stands in a proxy's address, are not to be printed by
    /// anybody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UpstreamConfig");
        shown.field("name", &self.name).field("address", &self.address()).finish_non_exhaustive()
    }
}

impl UpstreamConfig {
    /// One that anybody may pull everything from.
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

    /// By what it is remembered who sent something: its address, without what may be secret in it.
    pub(crate) fn address(&self) -> String {
        match hab_outbound::Url::parse(&self.url) {
            Ok(url) => {
                format!("{}{}", url.origin().ascii_serialization(), url.path().trim_end_matches('/'))
            }
            Err(_) => self.name.clone(),
        }
    }
}
