//! Whether the client takes one answer of an HTTP/2 connection, which has several at a time.
//!
//! An HTTP/1 client that does not take its answer leaves its socket full. An HTTP/2 client can keep its socket empty
//! and yet open no window for the answer: then the answer is not asked for its next part, and nothing would notice. So
//! the server waits for the client from the time when an answer gave a part until it is asked for the next one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// The server waits for the client to take bytes.
    waiting: AtomicBool,
    /// Bytes that the answer gave, in total.
    moved: AtomicU64,
    /// How many milliseconds the server waited for the client in this window. Only the sweep writes it.
    awaited: AtomicU64,
    /// Bytes that the answer gave before this window. Only the sweep writes it.
    before: AtomicU64,
}

impl Flow {
    /// A new answer; the client need not take an empty one.
    pub(crate) fn new(empty: bool) -> Self {
        Self { waiting: AtomicBool::new(!empty), ..Self::default() }
    }

    /// Records that the next part was asked for.
    pub(crate) fn asked(&self) {
        self.waiting.store(false, Relaxed);
    }

    /// Records that the answer gave a part.
    pub(crate) fn gave(&self, count: usize) {
        self.moved.fetch_add(count as u64, Relaxed);
        self.waiting.store(true, Relaxed);
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    /// Whether the client took less than `pace` bytes a second in `taking` milliseconds in which the server waited for
    /// it. `passed`: milliseconds since the last call.
    pub(crate) fn is_over(&self, passed: u64, taking: u64, pace: u64) -> bool {
        let awaited = self.awaited.load(Relaxed) + if self.is_waiting() { passed } else { 0 };
        self.awaited.store(awaited, Relaxed);
        if awaited < taking {
            return false;
        }
        self.awaited.store(0, Relaxed);
        let moved = self.moved.load(Relaxed);
        moved.wrapping_sub(self.before.swap(moved, Relaxed)) < pace.saturating_mul(awaited) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_opens_no_window_is_too_slow_and_a_server_that_has_nothing_yet_is_not() {
        let (stalled, fast, working) = (Flow::new(false), Flow::new(false), Flow::new(false));
        working.asked();
        let mut over = Vec::new();
        for at in 1..=121 {
            fast.asked();
            fast.gave(2000);
            over.extend(
                [("stalled", &stalled), ("fast", &fast), ("working", &working)]
                    .iter()
                    .filter_map(|(name, flow)| flow.is_over(1000, 120_000, 1000).then_some((at, *name))),
            );
        }
        assert_eq!(over, [(120, "stalled")]);
        assert!(!Flow::new(true).is_over(1_000_000, 120_000, 1000), "there is nothing to be taken");
    }
}
