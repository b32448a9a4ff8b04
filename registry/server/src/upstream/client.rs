//! One upstream registry, asked over HTTP.

use std::sync::OnceLock;
use std::time::Duration;

use hab_oci::{Digest, media_type};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode, Url};

use super::UpstreamConfig;
use super::challenge::Challenge;
use super::rest::Rest;
use super::token::Tokens;
use crate::observe::Metrics;

/// Why an upstream did not give what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It says that there is no such thing, or that it is not for us.
    #[error("it has none")]
    Absent,
    /// It did not answer, or said it cannot.
    #[error("{0}")]
    Away(String),
    /// What it sent is not what it should be.
    #[error("what it sent is refused: {0}")]
    Wrong(String),
}

/// A manifest as an upstream sent it: **unverified** but for its digest where one was asked for.
pub(crate) struct RawManifest {
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(super) http: reqwest::Client,
    pub(super) config: UpstreamConfig,
    pub(super) tokens: Tokens,
    pub(super) rest: Rest,
    /// Where requests are counted, once it is served.
    pub(super) metrics: OnceLock<Metrics>,
}

impl Client {
    pub(crate) fn new(config: UpstreamConfig) -> Result<Self, String> {
        let secure = config.url.starts_with("https://");
        if !secure && !config.url.starts_with("http://") {
            return Err(format!("upstream {}: {:?} is neither http nor https", config.name, config.url));
        }
        let redirects = reqwest::redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > 5 {
                attempt.error("too many redirects")
            } else if secure && attempt.url().scheme() != "https" {
                attempt.error("a redirect from https to something else")
            } else {
                attempt.follow()
            }
        });
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("hab-build/", env!("CARGO_PKG_VERSION")))
            .redirect(redirects)
            // A variable that some shell left behind must not decide who sees what is asked.
            .no_proxy()
            .connect_timeout(Duration::from_secs(10).min(config.patience.silence))
            .read_timeout(config.patience.silence);
        if let Some(proxy) = &config.proxy {
            let known = ["http://", "https://"].iter().any(|scheme| proxy.starts_with(scheme));
            let made = known.then(|| reqwest::Proxy::all(proxy)).and_then(Result::ok);
            // The address may hold a password, so it is not repeated.
            let made = made.ok_or_else(|| {
                format!("upstream {}: its proxy is not like http://proxy.example:3128", config.name)
            })?;
            builder = builder.proxy(made);
        }
        let http = builder.build().map_err(|e| format!("upstream {}: {e}", config.name))?;
        Ok(Self { http, config, tokens: Tokens::default(), rest: Rest::default(), metrics: OnceLock::new() })
    }

    pub(crate) fn config(&self) -> &UpstreamConfig {
        &self.config
    }

    /// Whether it was away a moment ago, or is never asked.
    pub(crate) fn is_resting(&self) -> bool {
        self.config.offline || self.rest.left().is_some()
    }

    /// For how much longer it is not asked, and whether it wanted that itself.
    pub(crate) fn rest_left(&self) -> Option<(Duration, bool)> {
        self.rest.left()
    }

    /// Learns what it asks for, so that the first pull need not.
    pub(crate) async fn greet(&self) {
        if self.config.offline {
            return;
        }
        let url = format!("{}/v2/", self.config.url.trim_end_matches('/'));
        // One that is away is asked again when there is something to be asked for.
        let Ok(response) = self.http.get(url).timeout(self.config.patience.small).send().await else {
            return;
        };
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = challenge_of(response.headers())
        {
            self.tokens.remember(Some(&challenge));
        }
    }

    /// The digest of what a tag is, as the upstream's header says.
    pub(crate) async fn head(&self, repository: &str, tag: &str) -> Result<Option<Digest>, Failure> {
        let path = format!("{repository}/manifests/{tag}");
        let response = self.ask(Method::HEAD, self.url(&path)?, repository, manifests()).await?;
        let digest = response.headers().get("docker-content-digest").and_then(|v| v.to_str().ok());
        Ok(digest.and_then(|text| text.parse().ok()))
    }

    /// A manifest by tag or digest.
    pub(crate) async fn manifest(
        &self,
        repository: &str,
        reference: &str,
        limit: usize,
    ) -> Result<RawManifest, Failure> {
        let path = format!("{repository}/manifests/{reference}");
        let response = self.ask(Method::GET, self.url(&path)?, repository, manifests()).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media_type = kind.split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = self.whole(response, limit).await?;
        Ok(RawManifest { media_type, bytes })
    }

    /// A blob's bytes from `first` on, or from 0 where the upstream knows no ranges; and from where they are.
    pub(crate) async fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        first: u64,
    ) -> Result<(Response, u64), Failure> {
        let mut headers = HeaderMap::new();
        if first > 0
            && let Ok(range) = format!("bytes={first}-").parse()
        {
            headers.insert(RANGE, range);
        }
        let url = self.url(&format!("{repository}/blobs/{digest}"))?;
        let response = self.ask(Method::GET, url, repository, headers).await?;
        match response.status() {
            StatusCode::OK => Ok((response, 0)),
            StatusCode::PARTIAL_CONTENT if first > 0 && begins_at(response.headers(), first) => {
                Ok((response, first))
            }
            status => Err(Failure::Wrong(format!("it answered {status} to bytes from {first} on"))),
        }
    }

    /// A small blob, whole and of its digest.
    pub(crate) async fn small_blob(
        &self,
        repository: &str,
        digest: &Digest,
        limit: usize,
    ) -> Result<Vec<u8>, Failure> {
        let (response, _) = self.blob(repository, digest, 0).await?;
        let bytes = self.whole(response, limit).await?;
        if Digest::of_with(digest.algorithm(), &bytes) == *digest {
            Ok(bytes)
        } else {
            Err(Failure::Wrong(format!("other bytes than {digest}")))
        }
    }

    /// The address of something below `/v2/`.
    pub(super) fn url(&self, path: &str) -> Result<Url, Failure> {
        let text = format!("{}/v2/{path}", self.config.url.trim_end_matches('/'));
        text.parse().map_err(|_| Failure::Wrong("it has no address".to_owned()))
    }

    /// Asks, unless it is to be left alone.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: Url,
        repository: &str,
        headers: HeaderMap,
    ) -> Result<Response, Failure> {
        if self.config.offline {
            return Err(Failure::Absent);
        }
        if self.is_resting() {
            return Err(Failure::Away("it did not answer a moment ago".to_owned()));
        }
        let answer = self.ask_now(method, url, repository, headers).await;
        self.count(match &answer {
            Ok(_) => "ok",
            Err(Failure::Absent) => "absent",
            Err(Failure::Away(_)) if self.rest.left().is_some_and(|(_, asked)| asked) => "limited",
            Err(Failure::Away(_)) => "away",
            // Counted where it is refused.
            Err(Failure::Wrong(_)) => return answer,
        });
        answer
    }

    /// Counts what came of a request.
    pub(super) fn count(&self, result: &'static str) {
        if let Some(metrics) = self.metrics.get() {
            metrics.upstream(&self.config.name, result);
        }
    }

    /// Asks once, and once more with what it asks for.
    async fn ask_now(
        &self,
        method: Method,
        url: Url,
        repository: &str,
        headers: HeaderMap,
    ) -> Result<Response, Failure> {
        let scope = format!("repository:{repository}:pull");
        if self.tokens.get(&scope).is_none()
            && let Some(challenge) = self.tokens.asks()
            && self.meet(challenge, &scope, None).await.is_err()
        {
            // It may ask otherwise by now.
            self.tokens.remember(None);
        }
        for attempt in 0..2 {
            let mut request = self.http.request(method.clone(), url.clone()).headers(headers.clone());
            let sent = self.tokens.get(&scope);
            if let Some(authorization) = &sent {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.send().await.map_err(|e| self.away(&e))?;
            match response.status() {
                StatusCode::UNAUTHORIZED if attempt == 0 => match challenge_of(response.headers()) {
                    Some(challenge) => self.meet(challenge, &scope, sent.as_deref()).await?,
                    None => return Err(Failure::Absent),
                },
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                    return Err(Failure::Absent);
                }
                StatusCode::TOO_MANY_REQUESTS => {
                    self.rest.begin_as_asked(response.headers(), self.config.patience.rest);
                    return Err(Failure::Away("it limits how often it is asked".to_owned()));
                }
                status if status.is_success() => return Ok(response),
                status => {
                    if status.is_server_error() {
                        self.rest.begin_as_asked(response.headers(), self.config.patience.rest);
                    }
                    return Err(Failure::Away(format!("it answered {status}")));
                }
            }
        }
        Err(Failure::Absent)
    }

    pub(super) fn away(&self, error: &reqwest::Error) -> Failure {
        self.rest.begin(self.config.patience.rest);
        // The address may hold a token that a redirect put there.
        Failure::Away(
            if error.is_timeout() { "it did not answer in time" } else { "it could not be reached" }
                .to_owned(),
        )
    }

    /// A whole small body, which does not take long.
    pub(super) async fn whole(&self, response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
        let slow = |_| Failure::Away("its answer took too long".to_owned());
        tokio::time::timeout(self.config.patience.small, collect(response, limit)).await.map_err(slow)?
    }
}

fn challenge_of(headers: &HeaderMap) -> Option<Challenge> {
    // One that offers several schemes may send a header for each.
    let mut texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    texts.find_map(Challenge::of)
}

/// Whether a part is the one that was asked for; one that does not say so is believed, and held against the digest.
fn begins_at(headers: &HeaderMap, first: u64) -> bool {
    let said = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    said.is_none_or(|text| text.trim().starts_with(&format!("bytes {first}-")))
}

/// The kinds of manifests that are kept.
fn manifests() -> HeaderMap {
    let kinds = [
        media_type::IMAGE_INDEX,
        media_type::IMAGE_MANIFEST,
        media_type::DOCKER_MANIFEST_LIST,
        media_type::DOCKER_MANIFEST,
    ];
    let mut headers = HeaderMap::new();
    for kind in kinds {
        headers.append(ACCEPT, HeaderValue::from_static(kind));
    }
    headers
}

async fn collect(mut response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let broken = |_| Failure::Away("its answer broke off".to_owned());
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if bytes.len() + chunk.len() > limit {
            return Err(Failure::Wrong(format!("more than {limit} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
