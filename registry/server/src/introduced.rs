//! Requests that know whose connection they came by, and answers that know whether it can be kept.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderName, HeaderValue, header};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::Limits;
use crate::access::Peer;
use crate::early::{Lent, Owner};
use crate::slot::{Phase, Slot};

/// The service of one connection.
pub(crate) struct Introduced {
    service: TowerToHyperService<Router>,
    from: SocketAddr,
    peer: Arc<Peer>,
    slot: Arc<Slot>,
    limits: Limits,
}

impl Introduced {
    pub(crate) fn new(
        service: TowerToHyperService<Router>,
        from: SocketAddr,
        peer: Peer,
        slot: Arc<Slot>,
        limits: Limits,
    ) -> Self {
        Self { service, from, peer: Arc::new(peer), slot, limits }
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
        if self.peer.secure {
            // What is served beside the registry asks this header which scheme its own address has.
            let (name, value) =
                (HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("https"));
            head.headers.insert(name, value);
        }
        head.extensions.insert(self.peer.clone());
        head.extensions.insert(ConnectInfo(self.from));
        let (body, owner) = self.lend(body, number, head.headers.contains_key(header::EXPECT));
        let answering = self.service.call(hyper::Request::from_parts(head, body));
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
