//! Records one request, from its head to the last byte of its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::response::Response;

use super::access_log::AccessLog;
use super::counted::Counted;
use super::entries::{Answered, Line};
use super::metrics::Metrics;
use crate::access::Client;
use crate::http::{CACHE, CONTENT_DIGEST};
use crate::route::Route;

/// The recorded status of a request whose client left before the answer.
const GONE: u16 = 499;
/// The most characters of a client's text in a log line, because lines wait in memory.
const LONGEST: usize = 200;

/// A request that is being answered. Dropping this ends and records it.
pub(crate) struct Exchange {
    metrics: Metrics,
    start: Instant,
    method: &'static str,
    route: &'static str,
    status: u16,
    /// The announced length of the answer's body; an answer without one always counts as whole.
    length: Option<u64>,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    logged: Option<Box<Logged>>,
}

/// What only the access log needs.
struct Logged {
    log: AccessLog,
    at: SystemTime,
    address: IpAddr,
    account: Option<String>,
    repository: Option<String>,
    reference: Option<String>,
    digest: Option<String>,
    cache: Option<String>,
    agent: Option<String>,
}

/// The metrics that count requests, and the log for them.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    pub(crate) metrics: Metrics,
    pub(crate) log: Option<AccessLog>,
}

impl Observer {
    /// Begins to record a request and to count the bytes of its body.
    pub(crate) fn begin(
        &self,
        address: IpAddr,
        (name, route): (&'static str, Option<&Route>),
        request: Request,
    ) -> (Exchange, Request) {
        self.metrics.asked();
        let logged = self.log.as_ref().map(|log| {
            Box::new(Logged {
                log: log.clone(),
                at: SystemTime::now(),
                address,
                account: None,
                repository: route.and_then(Route::repository).map(ToString::to_string),
                reference: route.and_then(Route::reference).map(|text| text.chars().take(LONGEST).collect()),
                digest: None,
                cache: None,
                agent: text(request.headers(), header::USER_AGENT),
            })
        });
        let received = Arc::new(AtomicU64::new(0));
        let exchange = Exchange {
            metrics: self.metrics.clone(),
            start: Instant::now(),
            method: known(request.method()),
            route: name,
            status: GONE,
            length: None,
            received: received.clone(),
            sent: Arc::default(),
            logged,
        };
        let safe = request.method().is_safe();
        let request = if safe { request } else { request.map(|body| Counted::wrap(body, received, ())) };
        (exchange, request)
    }
}

impl Exchange {
    /// Records the path of a request that is not for the registry.
    pub(crate) fn asks(mut self, path: &str) -> Self {
        if let Some(logged) = &mut self.logged {
            logged.reference = Some(path.chars().take(LONGEST).collect());
        }
        self
    }

    /// Records the answer. The request is over when the answer's body is.
    pub(crate) fn answer(mut self, client: &Client, response: Response) -> Response {
        let headers = response.headers();
        self.status = response.status().as_u16();
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        self.length = if self.method == "HEAD" { Some(0) } else { length };
        if let Some(logged) = &mut self.logged {
            logged.account = client.name.as_ref().map(ToString::to_string);
            logged.digest = text(headers, CONTENT_DIGEST);
            logged.cache = text(headers, CACHE);
        }
        let sent = self.sent.clone();
        response.map(|body| Counted::wrap(body, sent, self))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Self { metrics, method, route, status, .. } = self;
        let (received, sent) = (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed));
        let seconds = self.start.elapsed().as_secs_f64();
        let whole = *status != GONE && self.length.is_none_or(|length| length == sent);
        metrics.answered(&Answered { route, method, status: *status, seconds, received, sent, whole });
        let Some(logged) = self.logged.take() else { return };
        let line = Line {
            time: format!("{:.3}", jiff::Timestamp::try_from(logged.at).unwrap_or_default()),
            client: logged.address,
            account: logged.account.as_deref(),
            method,
            route,
            repository: logged.repository.as_deref(),
            reference: logged.reference.as_deref(),
            digest: logged.digest.as_deref(),
            status: *status,
            received,
            sent,
            whole,
            seconds,
            cache: logged.cache.as_deref(),
            agent: logged.agent.as_deref(),
        };
        metrics.lines_lost(logged.log.write(&line));
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).chars().take(LONGEST).collect())
}

/// One of a fixed set, so that no client can make up metrics without end.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}
