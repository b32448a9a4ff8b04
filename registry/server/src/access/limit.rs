//! Limits how often one client may ask: a rate of requests a second, and a burst at once (the generic cell rate
//! algorithm).

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::account::Account;
use super::error::AccessError;

/// How many requests one client may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, without end.
    pub requests: u32,
    /// Requests at once after a pause.
    pub burst: u32,
}

/// The locks among which the clients are divided, so that few wait for each other.
const SHARDS: usize = 32;
/// The most clients in one generation of a shard; two generations are remembered.
const MOST: usize = 4096;

/// Two generations of clients. When the younger is full, it becomes the older, and the older is forgotten. A request
/// moves its client into the younger one, so that clients are forgotten which have not asked for longest.
#[derive(Default)]
struct Shard {
    young: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
}

impl Shard {
    fn get(&self, key: u64) -> Option<u64> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn put(&mut self, key: u64, rested: u64) {
        if self.young.len() >= MOST && !self.young.contains_key(&key) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, rested);
    }
}

/// Counts the requests of clients. For each client it remembers the time when its whole burst is available again.
pub(crate) struct Limiter {
    start: Instant,
    order: RandomState,
    /// Nanoseconds between two requests at the rate.
    interval: u64,
    /// How far ahead of the rate a client may be, in nanoseconds.
    ahead: u64,
    /// When each client's whole burst is available again, in nanoseconds since the start. Held for a map operation
    /// only.
    shards: Vec<Mutex<Shard>>,
}

/// A client, whose requests are counted together.
#[derive(Hash)]
pub(crate) enum Who<'a> {
    Account(&'a Account),
    Address(IpAddr),
}

impl Who<'_> {
    /// The client at an address. An IPv6 network of 64 bits is one client: its owner has 2^64 addresses.
    pub(crate) fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl Limiter {
    pub(crate) fn new(rate: Rate) -> Result<Self, AccessError> {
        if rate.requests == 0 || rate.burst == 0 {
            return Err(AccessError::Limit);
        }
        let interval = 1_000_000_000 / u64::from(rate.requests);
        Ok(Self {
            start: Instant::now(),
            order: RandomState::new(),
            interval,
            ahead: interval * u64::from(rate.burst),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        })
    }

    /// Counts one request, or returns how long the client must wait.
    pub(crate) fn take(&self, who: &Who<'_>) -> Result<(), Duration> {
        self.take_at(who, self.now())
    }

    /// Counts a request of the client at an address.
    pub(crate) fn take_from(&self, address: IpAddr) -> Result<(), Duration> {
        self.take(&Who::at(address))
    }

    fn take_at(&self, who: &Who<'_>, now: u64) -> Result<(), Duration> {
        let key = self.order.hash_one(who);
        let mut shard = self.shard(key);
        let rested = shard.get(key).unwrap_or(now).max(now);
        let next = self.judge(rested, now);
        // A refused client is remembered, too.
        shard.put(key, *next.as_ref().unwrap_or(&rested));
        next.map(|_| ())
    }

    /// When the client's whole burst is available again after one more request, or how much too early the request is.
    fn judge(&self, rested: u64, now: u64) -> Result<u64, Duration> {
        let next = rested + self.interval;
        match (next - now).checked_sub(self.ahead) {
            None | Some(0) => Ok(next),
            Some(early) => Err(Duration::from_nanos(early)),
        }
    }

    fn shard(&self, key: u64) -> std::sync::MutexGuard<'_, Shard> {
        let at = usize::try_from(key % SHARDS as u64).unwrap_or(0);
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("interval", &self.interval).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limiter() -> Limiter {
        Limiter::new(Rate { requests: 10, burst: 5 }).unwrap()
    }

    fn at(address: &str) -> Who<'static> {
        Who::at(address.parse().unwrap())
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = limiter();
        let who = at("192.0.2.1");
        let passed = |now| (0..100).filter(|_| limiter.take_at(&who, now).is_ok()).count();
        assert_eq!(passed(0), 5);
        assert_eq!(limiter.take_at(&who, 0), Err(Duration::from_millis(100)));
        assert_eq!(passed(SECOND / 10), 1);
        assert_eq!(passed(SECOND), 5, "rested");
        assert!(limiter.take_at(&at("192.0.2.2"), SECOND).is_ok(), "others have a burst of their own");
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_a_mapped_address_the_mapped_one() {
        let limiter = limiter();
        let take = |address: &str| limiter.take_at(&at(address), 0).is_ok();
        for host in 1..=5 {
            assert!(take(&format!("2001:db8::{host}")));
        }
        assert!(!take("2001:db8::ffff:0:1") && take("2001:db8:0:1::1"));
        for _ in 0..5 {
            assert!(take("::ffff:192.0.2.1"));
        }
        assert!(!take("192.0.2.1"));
        assert!(limiter.take_at(&Who::Account(&"a".parse().unwrap()), 0).is_ok());
    }

    #[test]
    fn many_clients_take_bounded_memory_and_who_goes_on_asking_is_not_forgotten() {
        let limiter = limiter();
        let busy = at("192.0.2.1");
        while limiter.take_at(&busy, 0).is_ok() {}
        for n in 0..u32::try_from(SHARDS * MOST * 4).unwrap() {
            let _ = limiter.take_at(&Who::Address(IpAddr::V4(n.into())), 0);
            if n % 1000 == 0 {
                assert!(limiter.take_at(&busy, 0).is_err());
            }
        }
        let size = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap();
            shard.young.len() + shard.old.len()
        };
        assert!(limiter.shards.iter().all(|shard| size(shard) <= 2 * MOST));
    }

    #[test]
    fn a_rate_that_lets_nobody_through_is_refused() {
        assert!(Limiter::new(Rate { requests: 0, burst: 1 }).is_err());
        assert!(Limiter::new(Rate { requests: 1, burst: 0 }).is_err());
    }
}
