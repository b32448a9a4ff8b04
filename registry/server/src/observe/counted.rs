//! A body that counts its bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::{Buf as _, Bytes};
use http_body::{Frame, SizeHint};

/// A body that passes unchanged, with the count of its bytes.
pub(crate) struct Counted<T> {
    body: Body,
    bytes: Arc<AtomicU64>,
    /// Dropped together with the body: this marks the end, whether the body came whole or was cut off.
    _end: T,
}

impl<T: Send + Unpin + 'static> Counted<T> {
    pub(crate) fn wrap(body: Body, bytes: Arc<AtomicU64>, end: T) -> Body {
        Body::new(Self { body, bytes, _end: end })
    }
}

impl<T: Unpin> HttpBody for Counted<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.bytes.fetch_add(data.remaining() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
