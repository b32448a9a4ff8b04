//! One upstream registry, asked over HTTP.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hab_oci::{Digest, media_type};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;

use super::UpstreamConfig;
use super::challenge::Challenge;

/// How long an upstream may stay silent.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a manifest or a token may take altogether.
const SMALL: Duration = Duration::from_secs(60);
/// For how long one that does not answer, or is limiting, is not asked again.
const REST: Duration = Duration::from_secs(10);
/// The longest that one may ask not to be asked again.
const LONG_REST: Duration = Duration::from_secs(3600);
/// The largest answer of a token service, in bytes.
const TOKEN: usize = 1 << 20;

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
    http: reqwest::Client,
    config: UpstreamConfig,
    /// Tokens by scope, and until when they are good. Held for a map operation only.
    tokens: Mutex<HashMap<String, (String, Instant)>>,
    /// Until when it is not asked. Held for a copy only.
    resting: Mutex<Option<Instant>>,
}

/// What a token service sends. Some call it by the one name, some by the other.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
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
        let http = reqwest::Client::builder()
            .user_agent(concat!("hab-build/", env!("CARGO_PKG_VERSION")))
            .redirect(redirects)
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(SILENCE)
            .build()
            .map_err(|e| format!("upstream {}: {e}", config.name))?;
        Ok(Self { http, config, tokens: Mutex::default(), resting: Mutex::default() })
    }

    pub(crate) fn config(&self) -> &UpstreamConfig {
        &self.config
    }

    /// Whether it was away a moment ago.
    pub(crate) fn is_resting(&self) -> bool {
        let until = *self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > Instant::now())
    }

    fn rest(&self, time: Duration) {
        *self.resting.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
    }

    /// The digest of what a tag is, as the upstream's header says.
    pub(crate) async fn head(&self, repository: &str, tag: &str) -> Result<Option<Digest>, Failure> {
        let path = format!("{repository}/manifests/{tag}");
        let response = self.ask(Method::HEAD, &path, repository, HeaderMap::new(), true).await?;
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
        let response = self.ask(Method::GET, &path, repository, HeaderMap::new(), true).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media_type = kind.split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = whole(response, limit).await?;
        Ok(RawManifest { media_type, bytes })
    }

    /// A blob's bytes from `first` on; the answer is 206 exactly when `first` is not 0.
    pub(crate) async fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        first: u64,
    ) -> Result<Response, Failure> {
        let mut headers = HeaderMap::new();
        if first > 0
            && let Ok(range) = format!("bytes={first}-").parse()
        {
            headers.insert(RANGE, range);
        }
        let response = self
            .ask(Method::GET, &format!("{repository}/blobs/{digest}"), repository, headers, false)
            .await?;
        let expected = if first > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        if response.status() == expected {
            Ok(response)
        } else {
            Err(Failure::Wrong(format!("it answered {} to a range", response.status())))
        }
    }

    /// Asks once, and once more with what it asks for.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        repository: &str,
        headers: HeaderMap,
        manifest: bool,
    ) -> Result<Response, Failure> {
        if self.is_resting() {
            return Err(Failure::Away("it did not answer a moment ago".to_owned()));
        }
        let scope = format!("repository:{repository}:pull");
        for attempt in 0..2 {
            let url = format!("{}/v2/{path}", self.config.url.trim_end_matches('/'));
            let mut request = self.http.request(method.clone(), url).headers(headers.clone());
            if manifest {
                for kind in [
                    media_type::IMAGE_INDEX,
                    media_type::IMAGE_MANIFEST,
                    media_type::DOCKER_MANIFEST_LIST,
                    media_type::DOCKER_MANIFEST,
                ] {
                    request = request.header(ACCEPT, kind);
                }
            }
            if let Some(authorization) = self.token(&scope) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.send().await.map_err(|e| self.away(&e))?;
            match response.status() {
                StatusCode::UNAUTHORIZED if attempt == 0 => {
                    let asked = response.headers().get(WWW_AUTHENTICATE).and_then(|v| v.to_str().ok());
                    match asked.and_then(Challenge::of) {
                        Some(challenge) => self.meet(challenge, &scope).await?,
                        None => return Err(Failure::Absent),
                    }
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                    return Err(Failure::Absent);
                }
                StatusCode::TOO_MANY_REQUESTS => {
                    let after =
                        response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
                    self.rest(after.map_or(REST, Duration::from_secs).clamp(REST, LONG_REST));
                    return Err(Failure::Away("it limits how often it is asked".to_owned()));
                }
                status if status.is_success() => return Ok(response),
                status => {
                    if status.is_server_error() {
                        self.rest(REST);
                    }
                    return Err(Failure::Away(format!("it answered {status}")));
                }
            }
        }
        Err(Failure::Absent)
    }

    fn away(&self, error: &reqwest::Error) -> Failure {
        self.rest(REST);
        // The address may hold a token that a redirect put there.
        Failure::Away(
            if error.is_timeout() { "it did not answer in time" } else { "it could not be reached" }
                .to_owned(),
        )
    }

    fn token(&self, scope: &str) -> Option<String> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(scope).filter(|(_, until)| *until > Instant::now()).map(|(token, _)| token.clone())
    }

    /// Gets what was asked for, to be sent with the next request.
    async fn meet(&self, challenge: Challenge, scope: &str) -> Result<(), Failure> {
        let user = self.config.username.as_ref().zip(self.config.password.as_ref());
        let (authorization, time) = match challenge {
            Challenge::Basic => {
                let (name, password) = user.ok_or(Failure::Absent)?;
                let probe = self.http.get(&self.config.url).basic_auth(name, Some(password)).build();
                let header =
                    probe.ok().and_then(|r| r.headers().get(AUTHORIZATION)?.to_str().ok().map(str::to_owned));
                (header.ok_or(Failure::Absent)?, LONG_REST)
            }
            Challenge::Bearer { realm, service, scope: said } => {
                // A password must not go where the upstream itself would not be asked.
                if self.config.url.starts_with("https://") && !realm.starts_with("https://") {
                    return Err(Failure::Wrong("its token service is not https".to_owned()));
                }
                let scope = said.unwrap_or_else(|| scope.to_owned());
                let mut query = vec![("scope", scope)];
                query.extend(service.map(|service| ("service", service)));
                let url = reqwest::Url::parse_with_params(&realm, &query)
                    .map_err(|_| Failure::Wrong("its token service has no address".to_owned()))?;
                let mut request = self.http.get(url);
                if let Some((name, password)) = user {
                    request = request.basic_auth(name, Some(password));
                }
                let response = request.send().await.map_err(|e| self.away(&e))?;
                if !response.status().is_success() {
                    return Err(Failure::Absent);
                }
                let granted: Granted = serde_json::from_slice(&whole(response, TOKEN).await?)
                    .map_err(|_| Failure::Wrong("its token service sent no token".to_owned()))?;
                let text = granted.token.or(granted.access_token);
                let text =
                    text.ok_or_else(|| Failure::Wrong("its token service sent no token".to_owned()))?;
                // The token specification's default is a minute.
                let time = Duration::from_secs(granted.expires_in.unwrap_or(60).clamp(10, 3600) - 5);
                (format!("Bearer {text}"), time)
            }
        };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|_, (_, until)| *until > now);
        tokens.insert(scope.to_owned(), (authorization, now + time));
        Ok(())
    }
}

/// A whole small body, which does not take long.
async fn whole(response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let slow = |_| Failure::Away("its answer took too long".to_owned());
    tokio::time::timeout(SMALL, collect(response, limit)).await.map_err(slow)?
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
