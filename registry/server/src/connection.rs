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
use crate::introduced::ConnectionService;
use crate::slot::{Phase, Slot};
use crate::tls::{HTTP2, Tls};
use crate::wire::Wire;
use crate::{Front, ServiceLimits};
use hab_chain::chain;

/// The most bytes that are buffered of a connection's request, and of its answer beside the bytes being sent.
const BUFFER: usize = 256 << 10;

/// How long bytes are still read from a client that gets no further answer.
const LINGER: Duration = Duration::from_secs(1);

/// The most bytes of a request's head; the longest token of this service fits twice.
const HEAD: u32 = 96 * 1024;

/// Requests at a time over one HTTP/2 connection. Clients open another connection when they want more.
const STREAMS: u32 = 16;
/// Requests on one connection that a client may have reset before the server looked at them: a client that goes on
/// doing that only wants to cause work.
const RESET: usize = 16;
/// Requests on one connection that the server may have reset because they were wrong.
const WRONG: usize = 64;
/// Bytes of bodies that a client may send on one connection before the server reads them.
const WINDOW: u32 = 1 << 20;
/// How soon to look again at a client's first bytes, if they do not show yet which protocol it speaks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The answer to a client with too many connections, if it speaks HTTP without TLS.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 46\r\n\r\nthis client has too many connections open here\n";

/// What every connection of a listener shares.
pub(crate) struct Shared {
    pub(crate) service: TowerToHyperService<Router>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) limits: ServiceLimits,
    pub(crate) front: Arc<Front>,
    /// Turns for requests over HTTP/2: those of ordinary clients, and those of clients that may have more.
    streams: [Turns; 2],
    /// Whether the listener is closed.
    closing: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(
        router: Router,
        tls: Option<Arc<Tls>>,
        limits: ServiceLimits,
        front: Arc<Front>,
    ) -> Self {
        let most = limits.connections_of(Ipv4Addr::LOCALHOST.into());
        let streams =
            [Turns::new(most, limits.connections_each.clamp(1, most.max(1))), Turns::new(most, most)];
        let closing = watch::Sender::new(false);
        Self { service: TowerToHyperService::new(router), tls, limits, front, streams, closing }
    }

    /// Marks the listener as closed: a client that has sent nothing yet is not waited for any more.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    async fn closed(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// The turns for a client's requests over HTTP/2. It may have as many answered at a time as it may have
    /// connections.
    pub(crate) fn streams(&self, address: IpAddr) -> &Turns {
        &self.streams[usize::from(self.limits.is_trusted(address))]
    }
}

/// Answers a client until it leaves or its slot is taken away.
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
    // Small answers must not wait for an acknowledgement; if this cannot be set, nothing else is harmed.
    let _ = stream.set_nodelay(true);
    let address = from.ip();
    let mut peer = Peer { address, secure: shared.tls.is_some(), certificate: None };
    let Some(tls) = &shared.tls else {
        // The slots end a client that sends nothing; a client that has left is noticed by the next read.
        let many = tokio::select! {
            biased;
            many = speaks_http2(&stream) => many.unwrap_or(false),
            () = shared.closed() => return,
        };
        let stream = Wire::new(stream, slot.clone());
        let mut service = ConnectionService::new(shared, from, peer, None, slot.clone());
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
    // The slots end a handshake that takes too long.
    match shaken.await {
        Ok(Some(stream)) => {
            let shown = Tls::shown(&stream);
            peer.certificate = shown.as_ref().and_then(|shown| shown.certificate.clone());
            let shown = shown.map(|shown| (tls.clone(), shown));
            slot.enter(Phase::Head);
            let many = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
            let service = ConnectionService::new(shared, from, peer, shown, slot.clone());
            if many {
                talk_many(stream, service, &slot, watcher).await;
            } else {
                talk(stream, service, watcher).await;
            }
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(%address, error = chain(&error), "a TLS handshake failed"),
    }
}

/// Refuses a client that has too many connections. Waits for nothing, because there may be very many such clients.
pub(crate) fn refuse(stream: &TcpStream, tls: bool) {
    if !tls {
        // The buffer of a new socket has room for it.
        let _ = stream.try_write(TOO_MANY);
    }
}

/// Whether a client speaks HTTP where TLS is served: a TLS client's first byte is 22, and a request begins with a
/// method.
async fn speaks_http(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase())
}

/// Whether a client without TLS speaks HTTP/2. It knows beforehand that it may, and its first bytes are a preface with
/// which no HTTP/1 request begins (RFC 9113, section 3.3).
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

/// Tells a client without TLS that TLS is needed. Its request is read before the connection is closed; otherwise the
/// system would send a reset instead of the answer.
async fn tell_plain(mut stream: TcpStream) -> io::Result<()> {
    let body = "{\"errors\":[{\"code\":\"UNSUPPORTED\",\"message\":\"this is served over https\"}]}";
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close";
    stream.write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    stream.shutdown().await?;
    let mut taken = [0; 4096];
    let rest = async { while stream.read(&mut taken).await.is_ok_and(|length| length > 0) {} };
    // A client that goes on sending is not waited for any longer.
    let _ = timeout(LINGER, rest).await;
    Ok(())
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: ConnectionService,
    watcher: Watcher,
) {
    // The slots limit the time of a head: a timer for every request would cost more.
    let connection = http1::Builder::new()
        .max_header_size(HEAD as usize)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = chain(&error), "a connection broke");
    }
}

/// Serves a connection over HTTP/2 (RFC 9113), on which a client may have several requests at a time.
async fn talk_many(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: ConnectionService,
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
