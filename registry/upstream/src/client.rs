//! One upstream registry, asked over HTTP.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hab_oci::{Digest, media_type};
use hab_outbound::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE,
};
use hab_outbound::{
    Answer, Method, Origin, Problem, Proxies, Request, Settings, StatusCode, Url, offers, shown,
};

use crate::config::UpstreamConfig;
use crate::count::Count;
use crate::failure::{Failure, Why};
use crate::pin::Pin;
use crate::rest::Pause;
use crate::tokens::{SentCredentials, Tokens};

/// A manifest as an upstream sent it: **unverified**; the caller checks its digest and its form.
pub(crate) struct RawManifest {
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) http: hab_outbound::Client,
    pub(crate) config: UpstreamConfig,
    /// The upstream's origin. Configured credentials go there and to its token service only.
    pub(crate) origin: Origin,
    /// The token service that the operator configured.
    pub(crate) token_service: Option<Origin>,
    /// The token service that the upstream named first.
    pub(crate) pin: Arc<Pin>,
    pub(crate) tokens: Tokens,
    pub(crate) rest: Pause,
    /// Counts requests; set once the registry is served.
    pub(crate) counter: OnceLock<Arc<dyn Count>>,
}

impl Client {
    pub(crate) fn new(config: UpstreamConfig) -> Result<Self, String> {
        let name = &config.name;
        let wrong = |what: &str, e: &dyn std::fmt::Display| format!("upstream {name}: {what}{e}");
        if !["https://", "http://"].iter().any(|scheme| config.url.starts_with(scheme)) {
            return Err(format!("upstream {name}: {:?} is neither http nor https", hidden(&config.url)));
        }
        let origin: Origin = config.url.parse().map_err(|e| wrong("url: ", &e))?;
        let named = |text: &String| text.parse::<Origin>();
        let token_service = config.token_service.as_ref().map(named).transpose();
        let token_service = token_service.map_err(|e| wrong("token-service: ", &e))?;
        let inner = config.inner.iter().map(named).collect::<Result<Vec<_>, _>>();
        let settings = Settings {
            connect: Duration::from_secs(10).min(config.patience.silence),
            silence: config.patience.silence,
            // Proxy variables of the environment are ignored: one that some shell left behind must not decide who sees
            // the requests.
            proxies: config.proxy.clone().map_or(Proxies::None, Proxies::At),
            authorities: config.ca.clone(),
            inner: inner.map_err(|e| wrong("inner: ", &e))?,
        };
        let http = hab_outbound::Client::new(&settings).map_err(|e| wrong("", &hab_outbound::story(&e)))?;
        let pin = Arc::new(Pin::new(config.pins.as_deref(), name, origin.clone()));
        let (tokens, rest, counter) = (Tokens::default(), Pause::default(), OnceLock::new());
        Ok(Self { http, config, origin, token_service, pin, tokens, rest, counter })
    }

    pub(crate) fn config(&self) -> &UpstreamConfig {
        &self.config
    }

    /// Whether the upstream is in a pause, or is never asked.
    pub(crate) fn is_resting(&self) -> bool {
        self.config.offline || self.rest.left().is_some()
    }

    /// How much of its pause is left, and whether it asked for the pause itself.
    pub(crate) fn rest_left(&self) -> Option<(Duration, bool)> {
        self.rest.left()
    }

    /// Learns how the upstream wants clients to authenticate, so that the first pull need not, and whether it accepts
    /// our credentials.
    pub(crate) async fn greet(&self) -> Result<(), Failure> {
        if self.config.offline {
            return Ok(());
        }
        let url = self.url("")?;
        // A failure here begins no pause: the upstream is asked again at the first pull.
        let answer = self.http.send(&Request::get(url.clone())).await.map_err(|e| Failure::of(&e))?;
        if answer.status() != StatusCode::UNAUTHORIZED || answer.is_redirected() {
            return greeted(&url, answer.status(), answer.is_redirected());
        }
        let way = self.way(offers(answer.headers())).await?;
        self.tokens.remember(Some(way.clone()));
        if self.config.username.is_none() {
            return Ok(());
        }
        let (shown, _) = self.obtain(&way, None).await?;
        let request =
            Request { authorization: Some(shown.authorization.clone()), ..Request::get(url.clone()) };
        let answer = self.http.send(&request).await.map_err(|e| Failure::of(&e))?;
        match answer.status() {
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(self.denied(&url, status, Some(&shown)))
            }
            status => greeted(&url, status, answer.is_redirected()),
        }
    }

    /// The digest that a tag points at, as the upstream's header states it.
    pub(crate) async fn head(&self, repository: &str, tag: &str) -> Result<Option<Digest>, Failure> {
        let path = format!("{repository}/manifests/{tag}");
        let response = self.ask(Method::HEAD, self.url(&path)?, repository, manifests()).await?;
        let digest = response.headers().get("docker-content-digest").and_then(|v| v.to_str().ok());
        Ok(digest.and_then(|text| text.parse().ok()))
    }

    /// Fetches a manifest by tag or digest.
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

    /// Asks whether there is a blob. Returns its size in bytes, if the upstream states it.
    pub(crate) async fn blob_size(&self, repository: &str, digest: &Digest) -> Result<Option<u64>, Failure> {
        let url = self.url(&format!("{repository}/blobs/{digest}"))?;
        let response = self.ask(Method::HEAD, url, repository, HeaderMap::new()).await?;
        // Read from the header, because the answer to a HEAD has no body.
        let said = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Ok(said.and_then(|text| text.parse().ok()))
    }

    /// Asks for a blob's bytes from `first` on. Returns the answer and where its bytes begin: at 0 if the upstream does
    /// not support ranges.
    pub(crate) async fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        first: u64,
    ) -> Result<(Answer, u64), Failure> {
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
            status => Err(Failure::Wrong(format!("it answered {status} to a request from byte {first} on"))),
        }
    }

    /// Fetches a small blob whole, and checks its digest.
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
            Err(Failure::Wrong(format!("its bytes do not match {digest}")))
        }
    }

    /// The address of a path below `/v2/`.
    pub(crate) fn url(&self, path: &str) -> Result<Url, Failure> {
        let text = format!("{}/v2/{path}", self.config.url.trim_end_matches('/'));
        text.parse().map_err(|_| Failure::Wrong("its address cannot be parsed".to_owned()))
    }

    /// Sends a request, unless the upstream is offline or in a pause.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: Url,
        repository: &str,
        headers: HeaderMap,
    ) -> Result<Answer, Failure> {
        if self.config.offline {
            return Err(Failure::Absent);
        }
        if let Some(why) = self.rest.reason() {
            return Err(why);
        }
        let answer = self.ask_now(method, url, repository, headers).await;
        self.count(match &answer {
            Ok(_) => "ok",
            Err(Failure::Absent) => "absent",
            Err(Failure::Away(_)) if self.rest.left().is_some_and(|(_, asked)| asked) => "limited",
            Err(Failure::Away(_)) => "away",
            Err(Failure::Denied(_)) => "denied",
            // Counted where the answer is refused.
            Err(Failure::Wrong(_)) => return answer,
        });
        answer
    }

    /// Counts a request by its result.
    pub(crate) fn count(&self, result: &'static str) {
        if let Some(counter) = self.counter.get() {
            counter.asked(&self.config.name, result);
        }
    }

    /// Sends a request, and once more with the credentials that the upstream asks for.
    async fn ask_now(
        &self,
        method: Method,
        url: Url,
        repository: &str,
        headers: HeaderMap,
    ) -> Result<Answer, Failure> {
        let scope = format!("repository:{repository}:pull");
        if self.tokens.get(&scope).is_none()
            && let Some(way) = self.tokens.asks()
            && let Err(failure) = self.meet(way, &scope, None).await
        {
            // The upstream may authenticate in another way by now. But a denial stays one, because the user is the
            // same.
            self.tokens.remember(None);
            if let Failure::Denied(_) = failure {
                return Err(failure);
            }
        }
        let mut request = Request { method, headers, ..Request::get(url.clone()) };
        let mut sent = self.tokens.get(&scope);
        for attempt in 0..2 {
            request.authorization = sent.as_ref().map(|shown| shown.authorization.clone());
            let answer = self.http.send(&request).await.map_err(|problem| self.failed(&problem))?;
            match answer.status() {
                StatusCode::UNAUTHORIZED if attempt == 0 && !answer.is_redirected() => {
                    let way = self.way(offers(answer.headers())).await?;
                    self.meet(way, &scope, sent.as_ref()).await?;
                    sent = self.tokens.get(&scope);
                }
                // A host that the upstream redirects to gets no credentials, whatever it asks for.
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) if answer.is_redirected() => {
                    let sentence = format!("it redirects to a host that answers {status}");
                    return Err(Failure::denied(sentence, answered(&answer)));
                }
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    self.tokens.forget(&scope);
                    return Err(self.denied(&url, status, sent.as_ref()));
                }
                StatusCode::NOT_FOUND => return Err(Failure::Absent),
                StatusCode::TOO_MANY_REQUESTS => {
                    let failure = Failure::away("it limits how often it is asked");
                    self.rest.begin_as_asked(answer.headers(), self.config.patience.rest, &failure);
                    return Err(failure);
                }
                status if status.is_success() => return Ok(answer),
                status => {
                    let failure = Failure::Away(Why::new(format!("it answered {status}"), answered(&answer)));
                    if status.is_server_error() {
                        self.rest.begin_as_asked(answer.headers(), self.config.patience.rest, &failure);
                    }
                    return Err(failure);
                }
            }
        }
        Err(Failure::Absent)
    }

    /// What a 401 or 403 of the upstream itself means, after this was sent to it. Only for a client without an account
    /// does it count as absence: many registries answer so for everything that is not public. With an account, that
    /// would hide a wrong password.
    fn denied(&self, url: &Url, status: StatusCode, sent: Option<&SentCredentials>) -> Failure {
        let user = self.config.username.as_deref().unwrap_or_default();
        match sent {
            Some(shown) if shown.anonymous => Failure::Absent,
            Some(_) => {
                let sentence = "it does not let the configured user in";
                let detail = format!("{sentence}: {} answered {status} to user {user:?}", shown(url));
                let failure = Failure::denied(sentence, detail);
                if status == StatusCode::UNAUTHORIZED {
                    // Some services lock an account after too many wrong passwords.
                    self.rest.begin(self.config.patience.rest, &failure);
                }
                failure
            }
            None => {
                let sentence = format!("it answered {status} and asks for no credentials that could be sent");
                Failure::denied(sentence.clone(), format!("{sentence}: {}", shown(url)))
            }
        }
    }

    /// Makes a failure of a transport error; begins a pause if the upstream cannot be reached.
    pub(crate) fn failed(&self, problem: &Problem) -> Failure {
        let failure = Failure::of(problem);
        if let Failure::Away(_) = failure {
            self.rest.begin(self.config.patience.rest, &failure);
        }
        failure
    }

    /// Reads a small body whole, within its time limit.
    pub(crate) async fn whole(&self, answer: Answer, limit: usize) -> Result<Vec<u8>, Failure> {
        answer.whole(limit, self.config.patience.small).await.map_err(|problem| Failure::of(&problem))
    }
}

/// The address and its status, for the log.
fn answered(answer: &Answer) -> String {
    format!("{} answered {}", answer.address(), answer.status())
}

/// What the answer to `/v2/` says about the upstream.
fn greeted(url: &Url, status: StatusCode, redirected: bool) -> Result<(), Failure> {
    let detail = format!("{} answered {status}", shown(url));
    if status.is_success() {
        Ok(())
    } else if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        Err(Failure::Away(Why::new(format!("it answered {status}"), detail)))
    } else if redirected {
        Err(Failure::Wrong(format!("{detail}, from a host that it redirects to")))
    } else {
        Err(Failure::Wrong(format!("{detail}: not an address of a registry, or it refuses everybody")))
    }
}

/// A bad address, without a password that may be in it.
fn hidden(url: &str) -> &str {
    url.split('@').next_back().unwrap_or_default()
}

/// Whether a part begins where it should. A part that does not say so is accepted, because the digest is checked later.
fn begins_at(headers: &HeaderMap, first: u64) -> bool {
    let said = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    said.is_none_or(|text| text.trim().starts_with(&format!("bytes {first}-")))
}

/// The `Accept` headers for the supported kinds of manifests.
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
