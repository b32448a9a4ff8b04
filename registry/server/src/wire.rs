//! Counts a connection's bytes, and ends the connection so that the client still gets the answer.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::sendfile::FileQueue;
use crate::slot::{Phase, Slot};

/// The most bytes that are discarded after an answer; [`Limits::linger`](crate::Limits::linger) limits the time.
pub(crate) const THROWN_AWAY: u64 = 64 << 20;

/// A connection that reports received and sent bytes to its slot.
///
/// Closing a socket while bytes of the client are unread, or still on their way, resets the connection. The client's
/// system then discards the part of the answer that the client has not read yet. So after an answer to a request that
/// was not read to its end, only the sending side is closed. What the client still sends is read and discarded until it
/// closes, too: RFC 9112, section 9.6.
pub(crate) struct Wire {
    inner: TcpStream,
    slot: Arc<Slot>,
    /// Parts of files to send; stays empty if the bytes written here are not those on the wire (TLS).
    parts: Arc<FileQueue>,
    /// How many more bytes may be discarded; set once the sending side is closed.
    closing: Option<u64>,
}

impl Wire {
    pub(crate) fn new(inner: TcpStream, slot: Arc<Slot>) -> Self {
        Self { inner, slot, parts: Arc::default(), closing: None }
    }

    /// The parts of files that this connection sends for their places.
    pub(crate) fn parts(&self) -> &Arc<FileQueue> {
        &self.parts
    }

    fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.inner.poll_write_ready(cx))?;
            match self.inner.try_io(Interest::WRITABLE, || self.parts.send(&self.inner)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Ready(Ok(count)) => self.slot.went(*count),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.slot.await_taking(true),
        }
        result
    }

    /// Reads and discards bytes, at most until the client closes.
    fn drain(&mut self, cx: &mut Context<'_>, mut room: u64) -> Poll<()> {
        let mut bytes = [MaybeUninit::uninit(); 16 << 10];
        loop {
            let mut taken = ReadBuf::uninit(&mut bytes);
            let read = Pin::new(&mut self.inner).poll_read(cx, &mut taken);
            let count = taken.filled().len() as u64;
            match read {
                Poll::Pending => {
                    self.closing = Some(room);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) if count > 0 && count < room => room -= count,
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, to);
        let count = to.filled().len() - before;
        if count > 0 {
            self.slot.came(count);
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let result = if FileQueue::is_place(from) {
            self.poll_send(cx)
        } else {
            Pin::new(&mut self.inner).poll_write(cx, from)
        };
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let place = from.iter().position(|slice| FileQueue::is_place(slice));
        let before = &from[..place.unwrap_or(from.len())];
        let result = if place.is_some() && before.iter().all(|slice| slice.is_empty()) {
            self.poll_send(cx)
        } else {
            Pin::new(&mut self.inner).poll_write_vectored(cx, before)
        };
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = if let Some(room) = self.closing {
            room
        } else {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            if !self.slot.has_unread() {
                return Poll::Ready(Ok(()));
            }
            self.slot.enter(Phase::Linger);
            self.closing = Some(THROWN_AWAY);
            THROWN_AWAY
        };
        self.drain(cx, room).map(Ok)
    }
}
