//! One connection, from its first byte to its last.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue};
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
use crate::access::Peer;
use crate::error::chain;
use crate::stall::StallGuard;
use crate::tls::Tls;

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
    tls: Option<&Tls>,
    limits: &Limits,
    watcher: Watcher,
) {
    // Small answers must not wait for an acknowledgement; that this cannot be set harms nothing else.
    let _ = stream.set_nodelay(true);
    let mut peer = Peer { address, secure: tls.is_some(), certificate: None };
    let Some(tls) = tls else {
        let stream = StallGuard::new(stream, limits.idle);
        return talk(stream, peer, service, limits, watcher).await;
    };
    let shaken = async {
        if speaks_http(&stream).await? {
            return tell_plain(stream).await.map(|()| None);
        }
        tls.accept(StallGuard::new(stream, limits.idle)).await.map(Some)
    };
    match timeout(limits.head, shaken).await {
        Ok(Ok(Some(stream))) => {
            peer.certificate = Tls::account(&stream);
            talk(stream, peer, service, limits, watcher).await;
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
    peer: Peer,
    service: TowerToHyperService<Router>,
    limits: &Limits,
    watcher: Watcher,
) {
    let service = Introduced { service, peer: Arc::new(peer) };
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
}

type Request = hyper::Request<Incoming>;

impl Service<Request> for Introduced {
    type Response = <TowerToHyperService<Router> as Service<Request>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request>>::Future;

    fn call(&self, mut request: Request) -> Self::Future {
        if self.peer.secure {
            // What is served beside the registry asks this header which scheme its own address has.
            let (name, value) =
                (HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("https"));
            request.headers_mut().insert(name, value);
        }
        request.extensions_mut().insert(self.peer.clone());
        self.service.call(request)
    }
}
