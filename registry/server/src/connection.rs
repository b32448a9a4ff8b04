//! One connection, from its first byte to its last.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hab_turns::Turns;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::access::Peer;
use crate::chain::chain;
use crate::introduced::Introduced;
use crate::slot::{Phase, Slot};
use crate::tls::{HTTP2, Tls};
use crate::wire::Wire;
use crate::{Front, Limits};

/// The most that is held of a connection's request, and of its answer beside what is being sent.
const BUFFER: usize = 256 << 10;

/// How long a connection is taken from that nothing more is said to.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes of a request's head; the largest token of ours fits twice.
const HEAD: u32 = 96 * 1024;

/// Requests at a time over one HTTP/2 connection. Clients open another one when they want more.
const STREAMS: u32 = 16;
/// Requests that a client may have given up before anybody looked at them, over one connection: who goes on doing
/// that only wants to cost something.
const RESET: usize = 16;
/// Requests that were ended here for what is wrong with them, over one connection.
const WRONG: usize = 64;
/// Bytes of bodies that a client may send before they are read, over one connection.
const WINDOW: u32 = 1 << 20;
/// How soon a client's first bytes are looked at again that do not say yet which protocol it speaks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a client is told that has too many connections, where it speaks http.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 46\r\n\r\nthis client has too many connections open here\n";

/// What every connection of a listener shares.
pub(crate) struct Shared {
    pub(crate) service: TowerToHyperService<Router>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) limits: Limits,
    pub(crate) front: Arc<Front>,
    /// For requests over HTTP/2, and for those of clients that are trusted with more.
    streams: [Turns; 2],
    /// Whether nothing is accepted any more.
    closing: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(router: Router, tls: Option<Arc<Tls>>, limits: Limits, front: Arc<Front>) -> Self {
        let most = limits.connections_of(Ipv4Addr::LOCALHOST.into());
        let streams =
            [Turns::new(most, limits.connections_each.clamp(1, most.max(1))), Turns::new(most, most)];
        let closing = watch::Sender::new(false);
        Self { service: TowerToHyperService::new(router), tls, limits, front, streams, closing }
    }

    /// Nothing is accepted any more: whoever has said nothing yet is not waited for.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    async fn closed(&self) {
        // The sender is here for as long as this.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Whose turns a client takes: it may have as many requests answered at a time over HTTP/2 as connections.
    pub(crate) fn streams(&self, address: IpAddr) -> &Turns {
        &self.streams[usize::from(self.limits.is_trusted(address))]
    }
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
        // That nothing is said is for the slots to see; one that has gone is found out when it is read.
        let many = tokio::select! {
            biased;
            many = speaks_http2(&stream) => many.unwrap_or(false),
            () = shared.closed() => return,
        };
        let stream = Wire::new(stream, slot.clone());
        let mut service = Introduced::new(shared, from, peer, None, slot.clone());
        if many {
            talk_many(stream, service, &slot, watcher).await;
        } else {
            service.send_parts(stream.parts().clone());
            talk(stream, service, watcher).await;
        }
        return;
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
            let many = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
            let service = Introduced::new(shared, from, peer, shown, slot.clone());
            if many {
                talk_many(stream, service, &slot, watcher).await;
            } else {
                talk(stream, service, watcher).await;
            }
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

/// Without TLS a client of HTTP/2 knows beforehand that it may speak it, and says so by its first bytes, with which no
/// request of HTTP/1 begins (RFC 9113, section 3.3).
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut first = [0; PREFACE.len()];
    loop {
        let came = stream.peek(&mut first).await?;
        if came == 0 || first[..came] != PREFACE[..came] {
            return Ok(false);
        }
        if came == PREFACE.len() {
            return Ok(true);
        }
        sleep(LOOK_AGAIN).await;
    }
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
        .max_header_size(HEAD as usize)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = chain(&error), "a connection broke");
    }
}

/// The same over HTTP/2 (RFC 9113), by which a client may ask for several things at a time.
async fn talk_many(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Introduced,
    slot: &Slot,
    watcher: Watcher,
) {
    slot.multiplex();
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(RESET)
        .max_local_error_reset_streams(WRONG)
        .max_header_list_size(HEAD)
        .max_send_buf_size(BUFFER)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = chain(&error), "a connection broke");
    }
}
