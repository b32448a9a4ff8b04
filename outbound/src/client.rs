//! The transport: one request at a time, redirects by hand.

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
use crate::way::{Common, Connection, Route, Way};
use crate::{Authorization, Origin, looks_inner};

/// How many redirects one request follows.
const REDIRECTS: usize = 5;
/// Variables that name a proxy.
const VARIABLES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// Who named the address that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The operator, so it may be anywhere.
    Operator,
    /// A host or a document from outside, so it must not lead in, but to an origin that the operator named for that.
    Outside,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET or HEAD.
    pub method: Method,
    /// Where. A user and a password in it go along where the operator named it, and to nobody else.
    pub url: Url,
    /// Who named it.
    pub named_by: NamedBy,
    /// What else is said. Credentials are no part of it.
    pub headers: HeaderMap,
    /// What goes to the one origin that it was made for.
    pub authorization: Option<Authorization>,
    /// Whether somebody else may answer.
    pub follow: bool,
    /// Whether a body whose label says that it is encoded is taken as it is: where a digest says which bytes it has to
    /// be, a wrong label (as for compressed files that some servers store) does no harm.
    pub any_encoding: bool,
}

impl Request {
    /// A GET of an address that the operator named, which may be answered by somebody else.
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

/// Asks hosts outside.
#[derive(Debug)]
pub struct Client {
    /// For origins that the operator named: they may be at inner addresses.
    named: Way,
    /// For all others: it connects to no inner address, whatever a name resolves to.
    outside: Way,
    /// For whatever is asked through a proxy. It resolves the proxy's name and no other, and the operator named that.
    proxied: Way,
    through: Through,
    hosts: Arc<Hosts>,
    inner: Vec<Origin>,
    /// How long an answer's head may take, redirects and all.
    head: Duration,
    silence: Duration,
}

/// What goes through a proxy.
#[derive(Debug)]
enum Through {
    Nothing,
    Everything,
    Some(Box<Matcher>),
}

impl Client {
    /// Prepares to ask; nothing is asked yet.
    pub fn new(settings: &Settings) -> Result<Self, BadSettings> {
        Self::with_table(settings, None)
    }

    pub(crate) fn with_table(settings: &Settings, table: Option<&LookUp>) -> Result<Self, BadSettings> {
        let hosts = Arc::new(Hosts::default());
        let common = Arc::new(Common::new(settings)?);
        let direct = |outside_only| {
            let resolver = Resolver { hosts: Arc::clone(&hosts), outside_only, table: table.cloned() };
            Way::new(&common, Route::Direct(resolver))
        };
        let (through, proxied) = match &settings.proxies {
            // Nothing is asked on it.
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
            proxied: Way::new(&common, proxied),
            through,
            hosts,
            inner: settings.inner.clone(),
            head: settings.connect + settings.silence,
            silence: settings.silence,
        })
    }

    /// The answer to a request, by whom it was asked or by whom that one redirects to. Any status that is no redirect
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

    /// Whether the next address counts as named by the operator: it is at an origin that the operator named for this,
    /// or at the very origin that was asked, unless that was ever seen outside.
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
        // Only ever where it was made for, and never after a redirect, not even back.
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
            // Every server ends a kept connection some day, and it may do so just as it is asked. Only GET and HEAD are
            // asked here, which may come twice (RFC 9110, section 9.2.2; RFC 9112, section 9.3.1).
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
            // Whoever names a proxy of another kind does not want to be seen without it.
            Some(_) => Err(Problem::new(url, Cause::Proxy)),
        }
    }
}

/// A proxy that is named and cannot be read must not mean that none is asked.
fn check_environment() -> Result<(), BadSettings> {
    let unread = VARIABLES.into_iter().find(|name| {
        let Ok(value) = std::env::var(name) else { return std::env::var_os(name).is_some() };
        let Some((_, rest)) = value.split_once("://") else { return value.contains(char::is_whitespace) };
        rest.is_empty() || rest.contains(char::is_whitespace)
    });
    unread.map_or(Ok(()), |name| Err(BadSettings::Variable(name)))
}

fn without_user(url: &mut Url) {
    // These fail only for addresses that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

#[cfg(test)]
mod tests;
