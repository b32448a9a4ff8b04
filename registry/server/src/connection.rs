//! One connection, from its first byte to its last.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::{Either, Ready, ready};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Limits;
use crate::access::{Peer, Problem, basic};
use crate::error::{Error, chain};
use crate::stall::StallGuard;
use crate::tls::{Shown, Tls};

/// The most that is held of a connection's request, and of its answer beside what is being sent.
const BUFFER: usize = 256 << 10;

/// How long a connection is taken from that nothing more is said to.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes of a request's head; the largest token of ours fits twice.
const HEAD: usize = 96 * 1024;

/// Answers a client until it goes or is cut off.
pub(crate) async fn run(
    stream: TcpStream,
    address: IpAddr,
    service: TowerToHyperService<Router>,
    tls: Option<Arc<Tls>>,
    limits: &Limits,
    watcher: Watcher,
) {
    // Small answers must not wait for an acknowledgement; that this cannot be set harms nothing else.
    let _ = stream.set_nodelay(true);
    let mut peer = Peer { address, secure: tls.is_some(), certificate: None };
    let Some(tls) = tls else {
        let stream = StallGuard::new(stream, limits.idle);
        return talk(stream, Introduced { service, peer: Arc::new(peer), shown: None }, limits, watcher)
            .await;
    };
    let shaken = async {
        if speaks_http(&stream).await? {
            return tell_plain(stream).await.map(|()| None);
        }
        tls.accept(StallGuard::new(stream, limits.idle)).await.map(Some)
    };
    match timeout(limits.head, shaken).await {
        Ok(Ok(Some(stream))) => {
            let shown = Tls::shown(&stream);
            peer.certificate = shown.as_ref().and_then(|shown| shown.certificate.clone());
            let shown = shown.map(|shown| (tls, shown));
            talk(stream, Introduced { service, peer: Arc::new(peer), shown }, limits, watcher).await;
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%address, error = chain(&error), "no handshake"),
        Err(_) => tracing::debug!(%address, "no handshake in time"),
    }
}

/// A TLS client's first byte is 22; a request begins with a method.
async fn speaks_http(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase())
}

/// What was asked is taken before the connection is closed, or the system would tell the client of a reset instead.
async fn tell_plain(mut stream: TcpStream) -> io::Result<()> {
    let body = "{\"errors\":[{\"code\":\"UNSUPPORTED\",\"message\":\"this is served over https\"}]}";
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close";
    stream.write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    stream.shutdown().await?;
    let mut taken = [0; 4096];
    let rest = async { while stream.read(&mut taken).await.is_ok_and(|length| length > 0) {} };
    // Whoever goes on sending is not listened to for longer.
    let _ = timeout(LINGER, rest).await;
    Ok(())
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Introduced,
    limits: &Limits,
    watcher: Watcher,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = chain(&error), "a connection broke");
    }
}

/// Requests that know whose connection they came by.
struct Introduced {
    service: TowerToHyperService<Router>,
    peer: Arc<Peer>,
    /// What the client showed, and who knows whether it still counts.
    shown: Option<(Arc<Tls>, Shown)>,
}

/// The answer to who showed a certificate that does not count any more: whatever it would have been for another, and whoever
/// the request says that it comes from.
fn no_more() -> Response {
    let error = Error::Unauthorized { challenge: basic(), problem: Problem::Certificate };
    let mut response = error.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

type Request = hyper::Request<Incoming>;
type Served = <TowerToHyperService<Router> as Service<Request>>::Future;

impl Service<Request> for Introduced {
    type Response = <TowerToHyperService<Router> as Service<Request>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request>>::Error;
    type Future = Either<Served, Ready<Result<Self::Response, Self::Error>>>;

    fn call(&self, mut request: Request) -> Self::Future {
        if self.shown.as_ref().is_some_and(|(tls, shown)| !tls.believes(shown)) {
            tracing::info!(address = %self.peer.address, "a client's certificate does not count any more");
            return Either::Right(ready(Ok(no_more())));
        }
        if self.peer.secure {
            // What is served beside the registry asks this header which scheme its own address has.
            let (name, value) =
                (HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("https"));
            request.headers_mut().insert(name, value);
        }
        request.extensions_mut().insert(self.peer.clone());
        Either::Left(self.service.call(request))
    }
}
