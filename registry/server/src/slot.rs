//! What a connection is doing, said by itself and read by [`Slots`](crate::slots::Slots). Every request writes here, so it
//! is made of numbers that nobody else writes: no lock, no timer.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::Notify;

/// What a connection waits for, or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Its TLS handshake is not done, or its request's head has not come to its end. So it begins.
    Head,
    /// It was answered, and nothing of another request has come.
    Idle,
    /// A request is being answered.
    Busy,
    /// It was answered and closed; what it still sends is thrown away.
    Linger,
}

#[derive(Debug)]
pub(crate) struct Slot {
    start: Instant,
    phase: AtomicU8,
    /// When the phase began, in milliseconds since the start.
    since: AtomicU64,
    /// Bytes that came and went, all in all.
    moved: AtomicU64,
    /// The client has to take what it is sent before anything goes on.
    taking: AtomicBool,
    /// The client has to send more of a body before anything goes on.
    sending: AtomicBool,
    /// Bytes came that belong to no request which has been read to its end.
    unread: AtomicBool,
    /// Requests whose heads were read.
    requests: AtomicU64,
    ended: Notify,
}

impl Slot {
    pub(crate) fn new(start: Instant) -> Self {
        let slot = Self {
            start,
            phase: AtomicU8::new(0),
            since: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            taking: AtomicBool::new(false),
            sending: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            ended: Notify::new(),
        };
        slot.enter(Phase::Head);
        slot
    }

    pub(crate) fn enter(&self, phase: Phase) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(now, Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Head,
            1 => Phase::Idle,
            2 => Phase::Busy,
            _ => Phase::Linger,
        }
    }

    pub(crate) fn since(&self) -> u64 {
        self.since.load(Relaxed)
    }

    /// Bytes came from the client.
    pub(crate) fn came(&self, count: usize) {
        self.count(count);
        self.unread.store(true, Relaxed);
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// Bytes were taken by the system for the client.
    pub(crate) fn went(&self, count: usize) {
        self.count(count);
        self.await_taking(false);
    }

    fn count(&self, count: usize) {
        // Two halves of one connection's task write this, one after the other.
        self.moved.store(self.moved.load(Relaxed).wrapping_add(count as u64), Relaxed);
    }

    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    /// Whether the client has to take what it is sent.
    pub(crate) fn await_taking(&self, awaited: bool) {
        set(&self.taking, awaited);
    }

    /// Whether the client has to send more of a body. That it does so in time is for the body's reader to see, who can
    /// answer it.
    pub(crate) fn await_body(&self, awaited: bool) {
        set(&self.sending, awaited);
    }

    pub(crate) fn is_to_take(&self) -> bool {
        self.taking.load(Relaxed)
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.is_to_take() || self.sending.load(Relaxed)
    }

    /// A request begins to be answered; its number.
    pub(crate) fn begin(&self) -> u64 {
        self.enter(Phase::Busy);
        self.requests.fetch_add(1, Relaxed) + 1
    }

    /// All of this request was read. Whoever says it late, when the next one has begun, says nothing.
    pub(crate) fn read_all(&self, request: u64) {
        if self.requests.load(Relaxed) == request {
            self.unread.store(false, Relaxed);
        }
    }

    /// More is to come of the request, and will not be read.
    pub(crate) fn leave_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// Ends the connection, whatever it is doing.
    pub(crate) fn end(&self) {
        self.ended.notify_one();
    }

    /// Returns when the connection has to end.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }
}

/// Mostly it says so already, and a write costs more than a read.
fn set(flag: &AtomicBool, value: bool) {
    if flag.load(Relaxed) != value {
        flag.store(value, Relaxed);
    }
}
