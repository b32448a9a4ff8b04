//! One connection, from its first byte to its last.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Front, Limits};
use crate::access::Peer;
use crate::error::chain;
use crate::introduced::Introduced;
use crate::slot::{Phase, Slot};
use crate::tls::Tls;
use crate::wire::Wire;

/// The most that is held of a connection's request, and of its answer beside what is being sent.
const BUFFER: usize = 256 << 10;

/// How long a connection is taken from that nothing more is said to.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes of a request's head; the largest token of ours fits twice.
const HEAD: usize = 96 * 1024;

/// What a client is told that has too many connections, where it speaks http.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 46\r\n\r\nthis client has too many connections open here\n";

/// What every connection of a listener shares.
pub(crate) struct Shared {
    pub(crate) service: TowerToHyperService<Router>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) limits: Limits,
    pub(crate) front: Arc<Front>,
}

/// Answers a client until it goes or its slot is taken from it.
pub(crate) async fn run(
    stream: TcpStream,
    from: SocketAddr,
    shared: &Shared,
    slot: Arc<Slot>,
    watcher: Watcher,
) {
    let answering = answer(stream, from, shared, slot.clone(), watcher);
    tokio::select! {
        () = answering => {}
        () = slot.ended() => {}
    }
}

async fn answer(stream: TcpStream, from: SocketAddr, shared: &Shared, slot: Arc<Slot>, watcher: Watcher) {
    // Small answers must not wait for an acknowledgement; that this cannot be set harms nothing else.
    let _ = stream.set_nodelay(true);
    let address = from.ip();
    let mut peer = Peer { address, secure: shared.tls.is_some(), certificate: None };
    let Some(tls) = &shared.tls else {
        let stream = Wire::new(stream, slot.clone());
        let service = Introduced::new(shared, from, peer, None, slot);
        return talk(stream, service, watcher).await;
    };
    let shaken = async {
        if speaks_http(&stream).await? {
            return tell_plain(stream).await.map(|()| None);
        }
        tls.accept(Wire::new(stream, slot.clone())).await.map(Some)
    };
    // That it takes too long is for the slots to see.
    match shaken.await {
        Ok(Some(stream)) => {
            let shown = Tls::shown(&stream);
            peer.certificate = shown.as_ref().and_then(|shown| shown.certificate.clone());
            let shown = shown.map(|shown| (tls.clone(), shown));
            slot.enter(Phase::Head);
            talk(stream, Introduced::new(shared, from, peer, shown, slot), watcher).await;
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(%address, error = chain(&error), "no handshake"),
    }
}

/// Sends a client away that has too many connections. Nothing is waited for: it may be one of very many.
pub(crate) fn refuse(stream: &TcpStream, tls: bool) {
    if !tls {
        // The buffer of a new socket has room for it.
        let _ = stream.try_write(TOO_MANY);
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
    watcher: Watcher,
) {
    // How long a head may take is for the slots to see: a timer for every request would cost more.
    let connection = http1::Builder::new()
        .max_header_size(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = chain(&error), "a connection broke");
    }
}
