//! One answer of a connection that has several at a time (HTTP/2), and whether its client takes it.
//!
//! A client of HTTP/1 that does not take its answer shows by its socket, which is full. One of HTTP/2 may keep its
//! socket empty and open no window for the answer: nothing of it is asked for any more then, and nobody would ever
//! look at it again. So an answer says that its client has to take it from when a part of it was given until the next
//! one is asked for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// The client has to take what it is sent.
    waiting: AtomicBool,
    /// Bytes that were given, all in all.
    moved: AtomicU64,
    /// For how many milliseconds the client was waited for in this window. The sweep alone writes it.
    awaited: AtomicU64,
    /// Bytes that were given before this window. The sweep alone writes it.
    before: AtomicU64,
}

impl Flow {
    /// An answer; an empty one need not be taken.
    pub(crate) fn new(empty: bool) -> Self {
        Self { waiting: AtomicBool::new(!empty), ..Self::default() }
    }

    /// The next part was asked for.
    pub(crate) fn asked(&self) {
        self.waiting.store(false, Relaxed);
    }

    /// A part was given.
    pub(crate) fn gave(&self, count: usize) {
        self.moved.fetch_add(count as u64, Relaxed);
        self.waiting.store(true, Relaxed);
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    /// Whether the client took less than `pace` bytes a second in `taking` milliseconds in which it was waited for.
    /// `passed`: milliseconds since this was asked last.
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
