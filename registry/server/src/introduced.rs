//! Adds the connection's client to each request, and decides for each answer whether the connection is kept.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, StatusCode, Version, header, request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::future::{Either, ready};
use hab_turns::{Client, Turn, Turns};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::time::timeout;

use crate::access::{Peer, Problem, Refusal, basic};
use crate::connection::Shared;
use crate::early::{LentBody, Owner};
use crate::error::Error;
use crate::flow::Flow;
use crate::sendfile::FileQueue;
use crate::slot::{Serving, Slot};
use crate::tls::{ClientChain, Tls};
use crate::{Front, ServiceLimits};

/// The service of one connection.
pub(crate) struct ConnectionService {
    service: TowerToHyperService<Router>,
    from: SocketAddr,
    peer: Arc<Peer>,
    /// The client's certificates, and the TLS settings that say whether they are still valid.
    shown: Option<(Arc<Tls>, ClientChain)>,
    slot: Arc<Slot>,
    /// The parts of files that the connection sends for answers; `None` if it must see the bytes that it sends.
    parts: Option<Arc<FileQueue>>,
    limits: ServiceLimits,
    front: Arc<Front>,
    /// Turns for requests over HTTP/2, where a connection has several: a client may have as many as it may have
    /// connections.
    streams: Turns,
}

/// How long a request over HTTP/2 waits for earlier ones of the same client, and the `Retry-After` that it then gets.
const TURN: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(5);

impl ConnectionService {
    pub(crate) fn new(
        shared: &Shared,
        from: SocketAddr,
        peer: Peer,
        shown: Option<(Arc<Tls>, ClientChain)>,
        slot: Arc<Slot>,
    ) -> Self {
        let (service, limits, front) = (shared.service.clone(), shared.limits.clone(), shared.front.clone());
        let streams = shared.streams(peer.address).clone();
        Self { service, from, peer: Arc::new(peer), shown, slot, parts: None, limits, front, streams }
    }

    /// From now on, the connection sends parts of files for answers.
    pub(crate) fn send_parts(&mut self, parts: Arc<FileQueue>) {
        self.parts = Some(parts);
    }

    /// The peer for a client's address, which behind a proxy is not that of the connection.
    fn peer_at(&self, client: IpAddr) -> Arc<Peer> {
        if client == self.peer.address {
            return self.peer.clone();
        }
        Arc::new(Peer { address: client, ..Peer::clone(&self.peer) })
    }

    /// Whether the client's certificate is still valid; `true` if it showed none.
    fn is_believed(&self) -> bool {
        let believed = self.shown.as_ref().is_none_or(|(tls, shown)| tls.believes(shown));
        if !believed {
            tracing::info!(address = %self.peer.address, "a client's certificate is no longer valid");
        }
        believed
    }

    /// Adds the connection's client to a request's head. Returns the client's address, and whether the request has one
    /// host.
    fn introduce(&self, head: &mut request::Parts) -> (IpAddr, bool) {
        // HTTP/2 has the host in the request's target; all code that asks for it here looks for the header.
        if let Some(authority) = head.uri.authority()
            && !head.headers.contains_key(header::HOST)
            && let Ok(host) = HeaderValue::try_from(authority.as_str())
        {
            head.headers.insert(header::HOST, host);
        }
        let hosts = head.headers.get_all(header::HOST).iter().count();
        let client = self.front.correct(self.from.ip(), self.peer.secure, &mut head.headers);
        head.extensions.insert(self.peer_at(client));
        head.extensions.insert(ConnectInfo(SocketAddr::new(client, self.from.port())));
        (client, hosts == 1 || (hosts == 0 && head.version < Version::HTTP_11))
    }

    /// Answers a request over HTTP/2, in its turn. An early answer ends the request alone, not its connection.
    fn call_one_of_many(&self, request: hyper::Request<Incoming>, serving: Serving) -> Answering {
        let (mut head, body) = request.into_parts();
        let (client, one_host) = self.introduce(&mut head);
        let (body, _) = self.lend(body, serving.number, false);
        let believed = self.is_believed();
        let (service, streams) = (self.service.clone(), self.streams.clone());
        let client = Client::of(client);
        Box::pin(async move {
            let (response, turn) = match timeout(TURN, streams.take(client)).await {
                Err(_) => (Error::from(Refusal::TooMany { wait: AGAIN }).into_response(), None),
                Ok(turn) if !one_host => (no_host(), Some(turn)),
                Ok(turn) if believed => {
                    (service.call(hyper::Request::from_parts(head, body)).await?, Some(turn))
                }
                Ok(turn) => (no_more(), Some(turn)),
            };
            Ok(response.map(|body| ResponseBody::one_of_many(body, serving, turn)))
        })
    }

    /// Lends the request's body. Also returns who gets it back; `None` if there is no body.
    fn lend(&self, body: Incoming, request: u64, expects: bool) -> (Body, Option<Owner>) {
        if body.is_end_stream() {
            self.slot.read_all(request);
            return (Body::empty(), None);
        }
        let (lent, owner) = LentBody::of(body, (self.slot.clone(), request), &self.limits, expects);
        (Body::new(lent), Some(owner))
    }
}

type Answering =
    Pin<Box<dyn Future<Output = Result<hyper::Response<ResponseBody>, std::convert::Infallible>> + Send>>;

impl Service<hyper::Request<Incoming>> for ConnectionService {
    type Response = hyper::Response<ResponseBody>;
    type Error = std::convert::Infallible;
    type Future = Answering;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let serving = Serving::begin(&self.slot);
        if self.slot.is_multiplexed() {
            return self.call_one_of_many(request, serving);
        }
        let (mut head, body) = request.into_parts();
        let (_, one_host) = self.introduce(&mut head);
        let (body, owner) = self.lend(body, serving.number, head.headers.contains_key(header::EXPECT));
        let answering = if !self.is_believed() {
            Either::Right(ready(Ok(no_more())))
        } else if !one_host {
            Either::Right(ready(Ok(no_host())))
        } else {
            Either::Left(self.service.call(hyper::Request::from_parts(head, body)))
        };
        let parts = self.parts.clone();
        Box::pin(async move {
            let mut response = answering.await?;
            if owner.is_some_and(Owner::must_close) {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| ResponseBody { body, serving, parts, many: None }))
        })
    }
}

/// The answer to a client whose certificate is no longer valid, whatever the request is and whoever it says that it
/// comes from.
fn no_more() -> Response {
    let refusal = Refusal::Unauthorized { challenge: basic(), problem: Problem::Certificate };
    let mut response = Error::from(refusal).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Refuses a request without exactly one host. Two readers of a request with two hosts, such as a proxy and this
/// service, could pick different ones (RFC 9112, section 3.2).
fn no_host() -> Response {
    let close = [(header::CONNECTION, "close")];
    (StatusCode::BAD_REQUEST, close, "a request needs one Host header\n").into_response()
}

/// An answer's body. When it is over, the connection waits for the next request.
pub(crate) struct ResponseBody {
    body: Body,
    serving: Serving,
    parts: Option<Arc<FileQueue>>,
    many: Option<Many>,
}

/// What an answer over HTTP/2 needs beside its body.
struct Many {
    flow: Arc<Flow>,
    /// Bytes that were read and not given yet.
    left: Bytes,
    _turn: Option<Turn>,
}

/// The most bytes of an answer over HTTP/2 that are given at a time: a frame. They are copied, because bytes for a
/// client that opens no window stay until the connection ends, and could keep something much larger in memory.
const FRAME: usize = 16 << 10;

impl ResponseBody {
    fn one_of_many(body: Body, serving: Serving, turn: Option<Turn>) -> Self {
        let flow = Arc::new(Flow::new(body.is_end_stream()));
        serving.slot().flow(&flow);
        Self { body, serving, parts: None, many: Some(Many { flow, left: Bytes::new(), _turn: turn }) }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(Many { flow, left, .. }) = &mut this.many else {
            return FileQueue::asked_by(this.parts.as_ref(), || Pin::new(&mut this.body).poll_frame(cx));
        };
        flow.asked();
        while left.is_empty() {
            let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => *left = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let piece = Bytes::copy_from_slice(&left.split_to(left.len().min(FRAME)));
        flow.gave(piece.len());
        this.serving.slot().moved_one_of_many(piece.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.many.as_ref().is_none_or(|many| many.left.is_empty()) && self.body.is_end_stream()
    }

    /// Called only before anything is read.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
