//! What a connection is doing: the connection writes it, [`Slots`](crate::slots::Slots) reads it. Every request writes
//! here, so the state is made of numbers with one writer: no lock, no timer.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use crate::flow::Flow;

/// What a connection does or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The TLS handshake or a request's head is not complete. Every connection begins so.
    Head,
    /// The last request was answered, and no byte of the next one has come.
    Idle,
    /// A request is being answered.
    Busy,
    /// The answer was sent and the sending side closed; the client's further bytes are discarded.
    Linger,
}

#[derive(Debug)]
pub(crate) struct Slot {
    start: Instant,
    phase: AtomicU8,
    /// When the phase began, in milliseconds since the start.
    since: AtomicU64,
    /// Bytes received and sent, in total.
    moved: AtomicU64,
    /// The server waits for the client to take bytes of an answer.
    taking: AtomicBool,
    /// The server waits for the client to send more of a body.
    sending: AtomicBool,
    /// Bytes came after the last request that was read to its end.
    unread: AtomicBool,
    /// Requests whose heads were read.
    requests: AtomicU64,
    /// Requests that are being answered; more than one only over HTTP/2.
    open: AtomicUsize,
    /// The connection speaks HTTP/2.
    multiplexed: AtomicBool,
    /// Answers that are being sent over HTTP/2. Held to add one, and to walk over the few there are.
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
        // Over HTTP/2, one answer may end while another begins, and either may write its phase last. An open request
        // means busy in any case.
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

    /// Records bytes that came from the client.
    pub(crate) fn came(&self, count: usize) {
        // Over HTTP/2, bytes need not belong to a request; the readers of bodies count theirs.
        if self.is_multiplexed() {
            return;
        }
        self.count(count);
        self.unread.store(true, Relaxed);
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// Records bytes that the system took for the client.
    pub(crate) fn went(&self, count: usize) {
        // Over HTTP/2, answers count their own bytes: otherwise a client could look busy for ever by having its pings
        // answered.
        if !self.is_multiplexed() {
            self.count(count);
        }
        self.await_taking(false);
    }

    fn count(&self, count: usize) {
        // Load and store suffice: only the two halves of the connection's task write this, one after the other.
        self.moved.store(self.moved.load(Relaxed).wrapping_add(count as u64), Relaxed);
    }

    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    /// Sets whether the server waits for the client to take bytes.
    pub(crate) fn await_taking(&self, awaited: bool) {
        set(&self.taking, awaited);
    }

    /// Sets whether the server waits for the client to send more of a body. The body's reader enforces the time limit,
    /// because it can answer the client.
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

    /// Switches to HTTP/2. The bytes that came so far are its preface.
    pub(crate) fn multiplex(&self) {
        self.multiplexed.store(true, Relaxed);
        self.unread.store(false, Relaxed);
    }

    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    /// Records bytes of a body that came or went over HTTP/2.
    pub(crate) fn moved_one_of_many(&self, count: usize) {
        self.moved.fetch_add(count as u64, Relaxed);
    }

    /// Adds an answer that is being sent over HTTP/2.
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

    /// Begins to answer a request; returns its number.
    fn begin(&self) -> u64 {
        self.open.fetch_add(1, Relaxed);
        self.enter(Phase::Busy);
        self.requests.fetch_add(1, Relaxed) + 1
    }

    /// Records that a request was read to its end. Does nothing if the next request has already begun.
    pub(crate) fn read_all(&self, request: u64) {
        if self.requests.load(Relaxed) == request {
            self.unread.store(false, Relaxed);
        }
    }

    /// Records that more of the request will come and will not be read.
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

/// Writes only a change: changes are rare, and a write costs more than a read.
fn set(flag: &AtomicBool, value: bool) {
    if flag.load(Relaxed) != value {
        flag.store(value, Relaxed);
    }
}

/// A request that is being answered. Dropping it ends it, whether or not there was an answer.
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
