//! Answers before the end of the request's body, and bodies that come too slowly.
//!
//! A server that answers early either closes the connection, or reads the rest of the body and discards it (RFC 9110,
//! section 10.1.1). A small rest is discarded and the connection is kept. Otherwise it is closed, with the care that
//! [`Wire`](crate::wire::Wire) takes.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep, timeout};

use crate::ServiceLimits;
use crate::slot::Slot;

/// The largest rest of a body that is discarded to keep the connection, in bytes.
const SMALL: u64 = 256 << 10;
/// How long the server waits for such a rest.
const SOON: Duration = Duration::from_secs(5);

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    #[error("less than {least} bytes came in {} s of waiting", waited.as_secs())]
    Slow { least: u64, waited: Duration },
}

impl BodyError {
    /// Whether this error, or one of its causes, is a body that came too slowly.
    pub(crate) fn is_slow(error: &(dyn StdError + 'static)) -> bool {
        let mut next = Some(error);
        while let Some(cause) = next {
            if let Some(Self::Slow { .. }) = cause.downcast_ref() {
                return true;
            }
            next = cause.source();
        }
        false
    }
}

/// A request's body that is lent to the endpoint; it goes back to its [`Owner`] if the endpoint does not read all of
/// it.
pub(crate) struct LentBody {
    /// `Some` until this is dropped.
    body: Option<Incoming>,
    owner: Arc<Mutex<Option<Incoming>>>,
    slot: Arc<Slot>,
    request: u64,
    pace: Pace,
    ended: bool,
}

/// Gets a lent body back.
pub(crate) struct Owner {
    /// The body, after it was given back; guards a move in or out.
    back: Arc<Mutex<Option<Incoming>>>,
    slot: Arc<Slot>,
    request: u64,
    /// The client sends the body only when it is asked to.
    expects: bool,
}

impl LentBody {
    /// `expects`: the client sends the body only when it is asked to.
    pub(crate) fn of(
        body: Incoming,
        (slot, request): (Arc<Slot>, u64),
        limits: &ServiceLimits,
        expects: bool,
    ) -> (Self, Owner) {
        let owner = Arc::<Mutex<Option<Incoming>>>::default();
        let pace = Pace::new(limits.idle, limits.pace);
        let back = Owner { back: owner.clone(), slot: slot.clone(), request, expects };
        (Self { body: Some(body), owner, slot, request, pace, ended: false }, back)
    }
}

impl Body for LentBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Pending => {
                this.slot.await_body(true);
                this.pace.wait(cx).map(|slow| Some(Err(slow)))
            }
            Poll::Ready(frame) => {
                this.slot.await_body(false);
                this.ended = !matches!(frame, Some(Ok(_)));
                let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map(Bytes::len);
                this.pace.came(length.unwrap_or(0));
                if this.slot.is_multiplexed() {
                    this.slot.moved_one_of_many(length.unwrap_or(0));
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for LentBody {
    fn drop(&mut self) {
        self.slot.await_body(false);
        if self.ended || self.is_end_stream() {
            self.slot.read_all(self.request);
            return;
        }
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}

impl Owner {
    /// Whether the connection must be closed after the answer; call it when there is one.
    pub(crate) fn must_close(self) -> bool {
        let back = self.back.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(rest) = back else { return false };
        let small = rest.size_hint().upper().is_some_and(|rest| rest <= SMALL);
        if !small || self.expects {
            self.slot.leave_unread();
            return true;
        }
        tokio::spawn(throw_away(rest, self.slot, self.request));
        false
    }
}

/// Discards the rest of a body. hyper keeps the connection while this reads, and closes it if this gives up.
async fn throw_away(mut rest: Incoming, slot: Arc<Slot>, request: u64) {
    let all = async {
        loop {
            match std::future::poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return false,
                None => return true,
            }
        }
    };
    if timeout(SOON, all).await == Ok(true) {
        slot.read_all(request);
    }
}

/// Enforces the minimum speed of a body. Only the time counts in which the server waits for the client.
struct Pace {
    window: Duration,
    /// Bytes a second.
    least: u64,
    waited: Duration,
    came: u64,
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn new(window: Duration, least: u64) -> Self {
        Self { window, least, waited: Duration::ZERO, came: 0, waiting: None, timer: None }
    }

    fn came(&mut self, count: usize) {
        if let Some(since) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        self.came += count as u64;
    }

    /// Ready if the client was too slow.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let since = *self.waiting.get_or_insert_with(Instant::now);
        let window = self.window;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(window)));
        // The timer is set again when it ends, not when bytes come: a client that keeps up costs one timer a window.
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let waited = self.waited + (now - since);
            let left = window.saturating_sub(waited);
            if left.is_zero() {
                let least =
                    u64::try_from(u128::from(self.least) * waited.as_millis() / 1000).unwrap_or(u64::MAX);
                if self.came < least {
                    return Poll::Ready(BodyError::Slow { least, waited });
                }
                (self.waited, self.came, self.waiting) = (Duration::ZERO, 0, Some(now));
            }
            let next = if left.is_zero() { window } else { left };
            timer.as_mut().reset(tokio::time::Instant::now() + next);
            if left.is_zero() {
                return self.wait(cx);
            }
        }
        Poll::Pending
    }
}
