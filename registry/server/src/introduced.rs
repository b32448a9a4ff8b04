//! Requests that know whose connection they came by, and answers that know whether it can be kept.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::future::{Either, ready};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::{Front, Limits};
use crate::access::{Peer, Problem, basic};
use crate::connection::Shared;
use crate::early::{Lent, Owner};
use crate::error::Error;
use crate::slot::{Phase, Slot};
use crate::tls::{Shown, Tls};

/// The service of one connection.
pub(crate) struct Introduced {
    service: TowerToHyperService<Router>,
    from: SocketAddr,
    peer: Arc<Peer>,
    /// What the client showed, and who knows whether it still counts.
    shown: Option<(Arc<Tls>, Shown)>,
    slot: Arc<Slot>,
    limits: Limits,
    front: Arc<Front>,
}

impl Introduced {
    pub(crate) fn new(
        shared: &Shared,
        from: SocketAddr,
        peer: Peer,
        shown: Option<(Arc<Tls>, Shown)>,
        slot: Arc<Slot>,
    ) -> Self {
        let (service, limits, front) = (shared.service.clone(), shared.limits.clone(), shared.front.clone());
        Self { service, from, peer: Arc::new(peer), shown, slot, limits, front }
    }

    /// What is known of a client, which has another address than its connection behind a proxy.
    fn peer_at(&self, client: IpAddr) -> Arc<Peer> {
        if client == self.peer.address {
            return self.peer.clone();
        }
        Arc::new(Peer { address: client, ..Peer::clone(&self.peer) })
    }

    /// Whether the certificate that the client showed counts, if it showed one.
    fn is_believed(&self) -> bool {
        let believed = self.shown.as_ref().is_none_or(|(tls, shown)| tls.believes(shown));
        if !believed {
            tracing::info!(address = %self.peer.address, "a client's certificate does not count any more");
        }
        believed
    }

    /// What the request's body becomes, and who gets it back; `None` where there is no body.
    fn lend(&self, body: Incoming, request: u64, expects: bool) -> (Body, Option<Owner>) {
        if body.is_end_stream() {
            self.slot.read_all(request);
            return (Body::empty(), None);
        }
        let (lent, owner) = Lent::of(body, (self.slot.clone(), request), &self.limits, expects);
        (Body::new(lent), Some(owner))
    }
}

impl Service<hyper::Request<Incoming>> for Introduced {
    type Response = hyper::Response<Answer>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let number = self.slot.begin();
        let (mut head, body) = request.into_parts();
        if let Some(authority) = head.uri.authority()
            && !head.headers.contains_key(header::HOST)
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            // HTTP/2 says it there (RFC 9113, section 8.3.1).
            head.headers.insert(header::HOST, host);
        }
        let hosts = head.headers.get_all(header::HOST).iter().count();
        let client = self.front.make_true(self.from.ip(), self.peer.secure, &mut head.headers);
        head.extensions.insert(self.peer_at(client));
        head.extensions.insert(ConnectInfo(SocketAddr::new(client, self.from.port())));
        let (body, owner) = self.lend(body, number, head.headers.contains_key(header::EXPECT));
        let answering = if !self.is_believed() {
            Either::Right(ready(Ok(no_more())))
        } else if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
            Either::Right(ready(Ok(no_host())))
        } else {
            Either::Left(self.service.call(hyper::Request::from_parts(head, body)))
        };
        let slot = self.slot.clone();
        Box::pin(async move {
            let mut response = answering.await?;
            if owner.is_some_and(Owner::must_close) {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Answer { body, slot }))
        })
    }
}

/// The answer to who showed a certificate that does not count any more: whatever it would have been for another, and whoever
/// the request says that it comes from.
fn no_more() -> Response {
    let error = Error::Unauthorized { challenge: basic(), problem: Problem::Certificate };
    let mut response = error.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Two readers of a request with two hosts, such as a proxy and this service, could mean two (RFC 9112, section 3.2).
fn no_host() -> Response {
    let close = [(header::CONNECTION, "close")];
    (StatusCode::BAD_REQUEST, close, "a request needs one Host header\n").into_response()
}

/// An answer's body. When it is over, the connection waits for the next request.
pub(crate) struct Answer {
    body: Body,
    slot: Arc<Slot>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.slot.enter(if self.slot.has_unread() { Phase::Head } else { Phase::Idle });
    }
}
