//! The HTTP client: one request at a time; it follows redirects itself.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Response, Url};
use tokio::time::{Instant, timeout_at};

use crate::answer::{Answer, whole_seconds};
use crate::origin::place;
use crate::problem::{Cause, Problem};
use crate::redirect::{NotFollowed, is_redirect, redirect_target};
use crate::resolve::{Hosts, LookUp, Resolver};
use crate::settings::{BadSettings, Proxies, Settings};
use crate::way::{Common, Connection, Route, RouteClients};
use crate::{Authorization, Origin, looks_inner};

/// The most redirects that one request follows.
const REDIRECTS: usize = 5;
/// Environment variables that name a proxy.
const VARIABLES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// Who named the address of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The operator named it, so it may be anywhere.
    Operator,
    /// A host or a document from outside named it, so it must not be an inner address, unless the operator listed its
    /// origin.
    Outside,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET or HEAD.
    pub method: Method,
    /// The address. A user and a password in it are sent only if the operator named the address, and only to that host.
    pub url: Url,
    /// Who named the address.
    pub named_by: NamedBy,
    /// Further headers; an `Authorization` among them is dropped.
    pub headers: HeaderMap,
    /// Credentials; sent only to the origin that they were made for.
    pub authorization: Option<Authorization>,
    /// Whether to follow redirects to other hosts.
    pub follow: bool,
    /// Whether to accept a body whose header says that it is encoded, and leave it as it is. If a digest checks the
    /// bytes, a wrong header does no harm (some servers send one with compressed files).
    pub any_encoding: bool,
}

impl Request {
    /// A GET of an address that the operator named; follows redirects.
    pub fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            named_by: NamedBy::Operator,
            headers: HeaderMap::new(),
            authorization: None,
            follow: true,
            any_encoding: false,
        }
    }
}

/// Sends requests to hosts outside.
#[derive(Debug)]
pub struct Client {
    /// For origins that the operator named: they may be at inner addresses.
    named: RouteClients,
    /// For all other origins: it never connects to an inner address, whatever a name resolves to.
    outside: RouteClients,
    /// For requests through a proxy. It resolves only the proxy's name, which the operator chose.
    proxied: RouteClients,
    through: Through,
    hosts: Arc<Hosts>,
    inner: Vec<Origin>,
    /// How long an answer's head may take, with all redirects.
    head: Duration,
    silence: Duration,
}

/// Which requests go through a proxy.
#[derive(Debug)]
enum Through {
    Nothing,
    Everything,
    Some(Box<Matcher>),
}

impl Client {
    /// Makes a client; sends nothing yet.
    pub fn new(settings: &Settings) -> Result<Self, BadSettings> {
        Self::with_table(settings, None)
    }

    pub(crate) fn with_table(settings: &Settings, table: Option<&LookUp>) -> Result<Self, BadSettings> {
        let hosts = Arc::new(Hosts::default());
        let common = Arc::new(Common::new(settings)?);
        let direct = |outside_only| {
            let resolver = Resolver { hosts: Arc::clone(&hosts), outside_only, table: table.cloned() };
            RouteClients::new(&common, Route::Direct(resolver))
        };
        let (through, proxied) = match &settings.proxies {
            // The proxy route is never used then.
            Proxies::None => (Through::Nothing, Route::Environment),
            Proxies::Environment => {
                check_environment()?;
                (Through::Some(Box::new(Matcher::from_env())), Route::Environment)
            }
            Proxies::At(address) => {
                let known = ["http://", "https://"].iter().any(|scheme| address.starts_with(scheme));
                let proxy = known.then(|| reqwest::Proxy::all(address)).and_then(Result::ok);
                let proxy = proxy.ok_or(BadSettings::Proxy)?;
                (Through::Everything, Route::Proxy(Box::new(proxy)))
            }
        };
        Ok(Self {
            named: direct(false),
            outside: direct(true),
            proxied: RouteClients::new(&common, proxied),
            through,
            hosts,
            inner: settings.inner.clone(),
            head: settings.connect + settings.silence,
            silence: settings.silence,
        })
    }

    /// Sends a request and returns the answer of the host or of the one that it redirects to. Any status but a redirect
    /// is an answer.
    pub async fn send(&self, request: &Request) -> Result<Answer, Problem> {
        let mut url = request.url.clone();
        let mut named_by = match Origin::of(&url) {
            Some(origin) if self.inner.contains(&origin) => NamedBy::Operator,
            _ => request.named_by,
        };
        if named_by == NamedBy::Outside {
            without_user(&mut url);
        }
        let until = Instant::now() + self.head;
        for hop in 0..=REDIRECTS {
            let response = self.ask(&url, named_by, request, (hop == 0, until)).await?;
            if !is_redirect(response.status()) {
                let encoded =
                    request.any_encoding || request.method == Method::HEAD || !response.status().is_success();
                let answer = Answer::new(response, url, hop > 0, self.silence)?;
                return if encoded { Ok(answer) } else { answer.plain() };
            }
            let refused = |to, why| Problem::new(&url, Cause::Redirect { to, why });
            let next = redirect_target(&url, response.headers()).map_err(|(to, why)| refused(to, why))?;
            if !request.follow {
                return Err(refused(place(&next), NotFollowed::Unwanted));
            }
            named_by = self.trusted(&url, named_by, &next);
            if named_by == NamedBy::Outside && looks_inner(next.host_str().unwrap_or_default()) {
                return Err(refused(place(&next), NotFollowed::Inner));
            }
            url = next;
        }
        let why = NotFollowed::TooMany(REDIRECTS + 1);
        Err(Problem::new(&request.url, Cause::Redirect { to: place(&url), why }))
    }

    /// Whether the next address counts as named by the operator: if the operator listed its origin, or if it stays at
    /// an origin that the operator named. The latter does not hold for a host that ever had a public address.
    fn trusted(&self, from: &Url, named_by: NamedBy, to: &Url) -> NamedBy {
        let (Some(from), Some(to)) = (Origin::of(from), Origin::of(to)) else { return NamedBy::Outside };
        let listed = self.inner.contains(&to);
        let same = named_by == NamedBy::Operator && from == to && !self.hosts.was_outside(to.host());
        if listed || same { NamedBy::Operator } else { NamedBy::Outside }
    }

    async fn ask(
        &self,
        url: &Url,
        named_by: NamedBy,
        request: &Request,
        (first, until): (bool, Instant),
    ) -> Result<Response, Problem> {
        let failed = |cause| Problem::new(url, cause);
        let origin = Origin::of(url).ok_or_else(|| failed(Cause::Scheme))?;
        if named_by == NamedBy::Outside && looks_inner(origin.host()) {
            return Err(failed(Cause::Inner));
        }
        let way = match (self.is_proxied(url)?, named_by) {
            (true, _) => &self.proxied,
            (false, NamedBy::Operator) => &self.named,
            (false, NamedBy::Outside) => &self.outside,
        };
        let mut headers = request.headers.clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // Only to the origin that it was made for, and never after a redirect, not even one that leads back.
        headers.remove(AUTHORIZATION);
        if first && let Some(value) = request.authorization.as_ref().and_then(|a| a.value_for(&origin)) {
            headers.insert(AUTHORIZATION, value.clone());
        }
        let on = async |connection| {
            let client = way.client(connection).map_err(|error| failed(Cause::Unprepared(error)))?;
            let asked = client.request(request.method.clone(), url.clone()).headers(headers.clone()).send();
            match timeout_at(until, asked).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) if error.is_timeout() => {
                    Err(failed(Cause::Silent { seconds: whole_seconds(self.silence) }))
                }
                Ok(Err(error)) => Err(Problem::of(url, error)),
                Err(_) => Err(failed(Cause::Silent { seconds: whole_seconds(self.head) })),
            }
        };
        match on(Connection::Kept).await {
            // A server may close a kept connection just when a request arrives on it. This client sends only GET and
            // HEAD, which may be repeated (RFC 9110, section 9.2.2; RFC 9112, section 9.3.1).
            Err(problem) if matches!(problem.cause(), Cause::Closed(_)) => on(Connection::New).await,
            answer => answer,
        }
    }

    fn is_proxied(&self, url: &Url) -> Result<bool, Problem> {
        let matcher = match &self.through {
            Through::Nothing => return Ok(false),
            Through::Everything => return Ok(true),
            Through::Some(matcher) => matcher,
        };
        let uri = url.as_str().parse().map_err(|_| Problem::new(url, Cause::Scheme))?;
        match matcher.intercept(&uri) {
            None => Ok(false),
            Some(proxy) if matches!(proxy.uri().scheme_str(), Some("http" | "https")) => Ok(true),
            // An operator who names a proxy of another kind does not want requests to go out without it.
            Some(_) => Err(Problem::new(url, Cause::Proxy)),
        }
    }
}

/// Fails if a proxy variable cannot be read: otherwise requests would go out without the proxy.
fn check_environment() -> Result<(), BadSettings> {
    let unread = VARIABLES.into_iter().find(|name| {
        let Ok(value) = std::env::var(name) else { return std::env::var_os(name).is_some() };
        let Some((_, rest)) = value.split_once("://") else { return value.contains(char::is_whitespace) };
        rest.is_empty() || rest.contains(char::is_whitespace)
    });
    unread.map_or(Ok(()), |name| Err(BadSettings::Variable(name)))
}

fn without_user(url: &mut Url) {
    // These calls fail only for addresses that cannot have a user or a password.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

#[cfg(test)]
mod tests;
