//! The open connections of each client, and the choice which one to end when there is no room for another.
//!
//! A client that opens many connections and sends nothing on them loses its own oldest ones; no other client waits. A
//! connection that is being answered is left alone as long as its client keeps the minimum speed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hab_turns::Client;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use crate::ServiceLimits;
use crate::slot::{Phase, Slot};

/// If clients that are being answered have all slots, one that the server waits for loses its connection if it was
/// slower than this on average, in bytes a second…
const SLOW: u64 = 32 << 10;
/// …for at least this long.
const SLOW_FOR: Duration = Duration::from_secs(10);

/// Within this time, a new connection is not ended to make room: its request's head may be on its way.
const YOUNG: Duration = Duration::from_millis(100);

pub(crate) struct Slots {
    start: Instant,
    young: Duration,
    limits: ServiceLimits,
    /// Guards the list; held for a map operation, or for a walk over it when there is no room.
    open: Mutex<Open>,
    freed: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Holder>,
    count: HashMap<Client, usize>,
}

struct Holder {
    client: Client,
    slot: Arc<Slot>,
    window: Window,
}

/// How long the server waited for a client in this window, and how many bytes had moved before it.
#[derive(Default)]
struct Window {
    awaited: u64,
    moved: u64,
}

/// Whether a new connection gets a slot.
pub(crate) enum Admission {
    Room(Ticket),
    /// The client has as many connections as it may, and all of them are being answered.
    TooMany,
    /// Clients that keep the minimum speed have all slots. One may become free.
    Full,
}

/// An open connection's entry in the list. Dropping it frees the slot.
pub(crate) struct Ticket {
    slots: Arc<Slots>,
    id: u64,
    pub(crate) slot: Arc<Slot>,
}

impl Slots {
    pub(crate) fn new(limits: ServiceLimits) -> Arc<Self> {
        Arc::new(Self::with(limits, YOUNG))
    }

    fn with(limits: ServiceLimits, young: Duration) -> Self {
        Self { start: Instant::now(), young, limits, open: Mutex::default(), freed: Notify::new() }
    }

    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Admission {
        let client = Client::of(address);
        let now = self.now();
        let long_ago = |entry: &Holder| now.saturating_sub(entry.slot.since()) >= millis(self.young);
        let mut open = self.open();
        let has = open.count.get(&client).copied().unwrap_or(0);
        let full = open.all.len() >= self.limits.connections;
        let goes = if has >= self.limits.connections_of(address) {
            match open.longest_waiting(long_ago, |entry| entry.client == client) {
                None if full => return Admission::Full,
                None => return Admission::TooMany,
                found => found,
            }
        } else if full {
            match open.longest_waiting(long_ago, |_| true).or_else(|| open.slowest(now)) {
                None => return Admission::Full,
                found => found,
            }
        } else {
            None
        };
        if let Some(id) = goes {
            open.end(id);
        }
        let slot = Arc::new(Slot::new(self.start));
        let id = open.next;
        open.next += 1;
        open.all.insert(id, Holder { client, slot: slot.clone(), window: Window::default() });
        *open.count.entry(client).or_default() += 1;
        Admission::Room(Ticket { slots: self.clone(), id, slot })
    }

    /// Ends a waiting connection of the client that has most connections; `false` if none waits. For when the system
    /// has no room.
    pub(crate) fn make_room(&self) -> bool {
        let mut open = self.open();
        let longest = open.longest_waiting(|_| true, |_| true);
        longest.inspect(|id| open.end(*id)).is_some()
    }

    /// Returns when a connection has ended since the last call.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Ends connections that waited for too long, or whose clients are too slow. Never returns.
    pub(crate) async fn sweep(&self) {
        let ServiceLimits { head, keep, taking, .. } = self.limits;
        let shortest = head.min(keep).min(taking);
        let every = (shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = self.now();
        loop {
            ticks.tick().await;
            let now = self.now();
            self.look(now, now - last);
            last = now;
        }
    }

    fn look(&self, now: u64, passed: u64) {
        let mut open = self.open();
        let Open { all, .. } = &mut *open;
        let late: Vec<_> = all
            .iter_mut()
            .filter_map(|(id, entry)| self.limits.is_over(entry, now, passed).then_some(*id))
            .collect();
        for id in late {
            open.end(id);
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }
}

impl Open {
    /// The connection to end first: of the clients with a waiting connection, the one with most connections, and of its
    /// waiting connections, the one that has waited longest. One in phase `Head` counts only if it began long enough
    /// ago.
    fn longest_waiting(
        &self,
        long_ago: impl Fn(&Holder) -> bool,
        among: impl Fn(&Holder) -> bool,
    ) -> Option<u64> {
        let waits = |(_, entry): &(&u64, &Holder)| match entry.slot.phase() {
            Phase::Busy => false,
            Phase::Head => long_ago(entry) && among(entry),
            Phase::Idle | Phase::Linger => among(entry),
        };
        let order = |(id, entry): &(&u64, &Holder)| {
            let others = self.count.get(&entry.client).copied().unwrap_or(0);
            (usize::MAX - others, entry.slot.since(), **id)
        };
        self.all.iter().filter(waits).min_by_key(order).map(|(id, _)| *id)
    }

    /// Of the connections whose client the server waits for, the slowest one, if it is too slow.
    fn slowest(&self, now: u64) -> Option<u64> {
        let speed = |(id, entry): (&u64, &Holder)| {
            let age = now.saturating_sub(entry.slot.since());
            let waited_for = entry.slot.is_awaited() && age >= millis(SLOW_FOR);
            let speed = entry.slot.moved().saturating_mul(1000) / age.max(1);
            (waited_for && speed < SLOW).then_some((speed, *id))
        };
        self.all.iter().filter_map(speed).min().map(|(_, id)| id)
    }

    /// Ends a connection. Its slot is free at once, although its socket lives for a moment longer.
    fn end(&mut self, id: u64) {
        if let Some(entry) = self.remove(id) {
            tracing::debug!(client = ?entry.client, phase = ?entry.slot.phase(), "a connection was ended");
            entry.slot.end();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Holder> {
        let entry = self.all.remove(&id)?;
        if let Some(count) = self.count.get_mut(&entry.client) {
            *count -= 1;
            if *count == 0 {
                self.count.remove(&entry.client);
            }
        }
        Some(entry)
    }
}

impl ServiceLimits {
    /// Whether a connection has to end. `passed`: milliseconds since the last call.
    fn is_over(&self, entry: &mut Holder, now: u64, passed: u64) -> bool {
        let slot = &entry.slot;
        let waited = |limit: Duration| now.saturating_sub(slot.since()) > millis(limit);
        match slot.phase() {
            Phase::Head => waited(self.head),
            Phase::Idle => waited(self.keep),
            Phase::Linger => waited(self.linger),
            Phase::Busy if slot.is_multiplexed() => {
                let taking = millis(self.taking);
                slot.flows().iter().any(|flow| flow.is_over(passed, taking, self.pace))
            }
            Phase::Busy => {
                entry.window.awaited += if slot.is_to_take() { passed } else { 0 };
                if entry.window.awaited < millis(self.taking) {
                    return false;
                }
                let moved = slot.moved();
                let came_or_went = moved.wrapping_sub(std::mem::replace(&mut entry.window.moved, moved));
                let least = self.pace.saturating_mul(std::mem::take(&mut entry.window.awaited)) / 1000;
                came_or_went < least
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.slots.open().remove(self.id);
        self.slots.freed.notify_one();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn slots(connections: usize, each: usize) -> Arc<Slots> {
        let limits = ServiceLimits { connections, connections_each: each, ..ServiceLimits::default() };
        Arc::new(Slots::with(limits, Duration::ZERO))
    }

    fn address(n: usize) -> IpAddr {
        format!("2001:db8:0:{n:x}::1").parse().unwrap()
    }

    fn admit(slots: &Arc<Slots>, n: usize) -> Ticket {
        match slots.admit(address(n)) {
            Admission::Room(ticket) => ticket,
            Admission::TooMany => panic!("{n} has too many"),
            Admission::Full => panic!("no room for {n}"),
        }
    }

    fn is_open(slots: &Slots, ticket: &Ticket) -> bool {
        slots.open().all.contains_key(&ticket.id)
    }

    #[test]
    fn a_client_that_says_nothing_loses_its_own_oldest_connection_and_nobody_elses() {
        let slots = slots(100, 10);
        let other = admit(&slots, 1);
        let mut held: Vec<_> = (0..10).map(|_| admit(&slots, 2)).collect();
        held[0].slot.enter(Phase::Busy);
        held.push(admit(&slots, 2));
        assert!(is_open(&slots, &other));
        let lost: Vec<_> = (0..11).filter(|n| !is_open(&slots, &held[*n])).collect();
        assert_eq!(lost, [1], "the oldest one that is not being answered");
        for ticket in &held {
            ticket.slot.enter(Phase::Busy);
        }
        assert!(matches!(slots.admit(address(2)), Admission::TooMany));
        drop(held.pop());
        assert!(matches!(slots.admit(address(2)), Admission::Room(_)));
    }

    #[test]
    fn when_all_slots_are_taken_the_client_that_has_most_gives_one() {
        let slots = slots(10, 8);
        let (one, busy) = (admit(&slots, 1), admit(&slots, 2));
        busy.slot.enter(Phase::Busy);
        let many: Vec<_> = (0..8).map(|_| admit(&slots, 3)).collect();
        let late = admit(&slots, 4);
        assert!([&one, &busy, &late].iter().all(|ticket| is_open(&slots, ticket)));
        assert_eq!(many.iter().filter(|ticket| is_open(&slots, ticket)).count(), 7);
        assert_eq!(slots.open().all.len(), 10);
        for ticket in many.iter().chain([&one, &late]) {
            ticket.slot.enter(Phase::Busy);
        }
        assert!(matches!(slots.admit(address(5)), Admission::Full), "who is being answered stays");
    }

    #[test]
    fn a_head_that_has_only_begun_is_given_time_to_end() {
        let limits = ServiceLimits { connections: 4, ..ServiceLimits::default() };
        let slots = Arc::new(Slots::with(limits, Duration::from_secs(3600)));
        let held: Vec<_> = (0..4).map(|n| admit(&slots, n)).collect();
        assert!(matches!(slots.admit(address(9)), Admission::Full));
        held[2].slot.enter(Phase::Idle);
        admit(&slots, 9);
        assert!(!is_open(&slots, &held[2]));
    }

    #[test]
    fn connections_that_wait_for_too_long_and_clients_that_are_too_slow_are_ended() {
        let slots = slots(10, 10);
        let ServiceLimits { head, keep, taking, pace, .. } = slots.limits.clone();
        let [half_sent, idle, slow, fast, working] = [1, 2, 3, 4, 5].map(|n| admit(&slots, n));
        idle.slot.enter(Phase::Idle);
        for ticket in [&slow, &fast, &working] {
            ticket.slot.enter(Phase::Busy);
        }
        slow.slot.await_taking(true);
        let open_at = |seconds: u64| {
            let each = usize::try_from(pace).unwrap();
            for ticket in [(&slow, each / 2), (&fast, each * 2)] {
                ticket.0.slot.went(ticket.1);
                ticket.0.slot.await_taking(true);
            }
            slots.look(seconds * 1000, 1000);
            [&half_sent, &idle, &slow, &fast, &working].map(|ticket| is_open(&slots, ticket))
        };
        let mut seen = Vec::new();
        for at in 1..=taking.as_secs() + 2 {
            let open = open_at(at);
            if seen.last().is_none_or(|(_, last)| *last != open) {
                seen.push((at, open));
            }
        }
        let ends: Vec<_> = seen.iter().map(|(at, _)| *at).collect();
        assert_eq!(ends[0], 1);
        assert_eq!(ends[1..], [head.as_secs() + 1, keep.as_secs() + 1, taking.as_secs()]);
        assert_eq!(seen.last().unwrap().1, [false, false, false, true, true]);
    }
}
