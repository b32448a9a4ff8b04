//! What a connection is doing, said by itself and read by [`Slots`](crate::slots::Slots). Every request writes here, so
//! it is made of numbers that nobody else writes: no lock, no timer.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use crate::flow::Flow;

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
    /// Requests that are being answered: more than one over HTTP/2 alone.
    open: AtomicUsize,
    /// It is HTTP/2.
    multiplexed: AtomicBool,
    /// Answers that are being sent over HTTP/2. Held to add one, and for a walk over a few of them.
    flows: Mutex<Vec<Weak<Flow>>>,
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
            open: AtomicUsize::new(0),
            multiplexed: AtomicBool::new(false),
            flows: Mutex::default(),
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
        // One answer of several may end while another one begins: whichever wrote its phase last, there is one.
        if self.open.load(Relaxed) > 0 {
            return Phase::Busy;
        }
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
        // Over HTTP/2 bytes need not belong to a request, and bodies say by themselves what comes.
        if self.is_multiplexed() {
            return;
        }
        self.count(count);
        self.unread.store(true, Relaxed);
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// Bytes were taken by the system for the client.
    pub(crate) fn went(&self, count: usize) {
        // Over HTTP/2 answers say by themselves what goes: a client could have its pings answered for ever.
        if !self.is_multiplexed() {
            self.count(count);
        }
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
        self.is_to_take()
            || self.sending.load(Relaxed)
            || self.is_multiplexed() && self.flows().iter().any(|flow| flow.is_waiting())
    }

    /// It is HTTP/2 from now on, of which the beginning has come.
    pub(crate) fn multiplex(&self) {
        self.multiplexed.store(true, Relaxed);
        self.unread.store(false, Relaxed);
    }

    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    /// Bytes of a body came or went over HTTP/2.
    pub(crate) fn moved_one_of_many(&self, count: usize) {
        self.moved.fetch_add(count as u64, Relaxed);
    }

    /// An answer is sent over HTTP/2.
    pub(crate) fn flow(&self, flow: &Arc<Flow>) {
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        flows.retain(|flow| flow.strong_count() > 0);
        flows.push(Arc::downgrade(flow));
    }

    /// Answers that are being sent over HTTP/2.
    pub(crate) fn flows(&self) -> Vec<Arc<Flow>> {
        let flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        flows.iter().filter_map(Weak::upgrade).collect()
    }

    /// A request begins to be answered; its number.
    fn begin(&self) -> u64 {
        self.open.fetch_add(1, Relaxed);
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

/// A request that is being answered; it is over when this is dropped, whether or not there was an answer.
#[derive(Debug)]
pub(crate) struct Serving {
    slot: Arc<Slot>,
    /// The request's number on its connection.
    pub(crate) number: u64,
}

impl Serving {
    pub(crate) fn begin(slot: &Arc<Slot>) -> Self {
        Self { number: slot.begin(), slot: slot.clone() }
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.slot.open.fetch_sub(1, Relaxed) == 1 {
            self.slot.enter(if self.slot.has_unread() { Phase::Head } else { Phase::Idle });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_with_several_requests_is_busy_until_the_last_one_is_answered_or_given_up() {
        let slot = Arc::new(Slot::new(Instant::now()));
        slot.came(24);
        slot.multiplex();
        let (one, two) = (Serving::begin(&slot), Serving::begin(&slot));
        drop(one);
        assert_eq!(slot.phase(), Phase::Busy);
        drop(two);
        assert_eq!(slot.phase(), Phase::Idle, "what came before was no request");
        slot.came(17);
        assert_eq!(slot.phase(), Phase::Idle, "a ping is no request");
        assert_eq!(slot.moved(), 24);
    }
}
