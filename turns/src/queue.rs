//! The queue in which clients wait for turns.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::Client;

/// A fixed number of turns, with a limit for each client. A clone is another handle on the same queue.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The most turns that one client may have at a time.
    each: usize,
    /// Guards who has a turn and who waits; held while the queue is searched.
    state: Mutex<State>,
    /// Notified when somebody begins to wait.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    taken: HashMap<Client, usize>,
    /// The number of the turn that a client got last, counted from the first turn ever; only for clients that have a
    /// turn or wait.
    given: HashMap<Client, u64>,
    count: u64,
    /// In order of arrival. A waiter that gave up stays in it until the next turn is given.
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    client: Client,
    ready: oneshot::Sender<Turn>,
}

/// Permission to do one thing now. Dropping it gives the turn to the next waiter.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    client: Client,
}

impl Turns {
    /// A queue with `total` turns, of which one client may have `each`; zero counts as one.
    pub fn new(total: usize, each: usize) -> Self {
        let state = State { free: total.max(1), ..State::default() };
        Self(Arc::new(Shared { each: each.max(1), state: Mutex::new(state), wanted: Notify::new() }))
    }

    /// Waits for a turn. The next turn goes to the waiting client that has the fewest turns, then to the one whose last
    /// turn is longest ago, then to the one that came first. Dropping the future gives up the place in the queue.
    pub async fn take(&self, client: Client) -> Turn {
        let waiting = {
            let mut state = self.state();
            if state.free > 0 && state.of(client) < self.0.each {
                return self.given(&mut state, client);
            }
            let (ready, waiting) = oneshot::channel();
            state.waiting.push_back(Waiter { client, ready });
            waiting
        };
        self.0.wanted.notify_waiters();
        match waiting.await {
            Ok(turn) => turn,
            // A waiter leaves the queue with a turn, or because its receiver was dropped; this receiver was not.
            Err(_) => unreachable!("a waiter leaves the queue with a turn"),
        }
    }

    /// Whether anybody waits for a turn.
    pub fn is_wanted(&self) -> bool {
        self.state().waiting.iter().any(|waiter| !waiter.ready.is_closed())
    }

    /// Returns when somebody waits for a turn.
    pub async fn wanted(&self) {
        loop {
            let told = self.0.wanted.notified();
            if self.is_wanted() {
                return;
            }
            told.await;
        }
    }

    fn given(&self, state: &mut State, client: Client) -> Turn {
        state.free -= 1;
        *state.taken.entry(client).or_default() += 1;
        state.count += 1;
        let count = state.count;
        state.given.insert(client, count);
        Turn { turns: self.clone(), client }
    }

    /// Removes the next waiter from the queue and gives it a turn.
    fn next(&self) -> Option<(Waiter, Turn)> {
        let mut state = self.state();
        state.waiting.retain(|waiter| !waiter.ready.is_closed());
        if state.free == 0 {
            return None;
        }
        state.forget();
        let may = |(_, waiter): &(usize, &Waiter)| state.of(waiter.client) < self.0.each;
        let next = state.waiting.iter().enumerate().filter(may);
        let rank = |client| (state.of(client), state.given.get(&client).copied().unwrap_or(0));
        let (at, _) = next.min_by_key(|(_, waiter)| rank(waiter.client))?;
        let waiter = state.waiting.remove(at)?;
        let turn = self.given(&mut state, waiter.client);
        Some((waiter, turn))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets the clients that neither have a turn nor wait for one.
    fn forget(&mut self) {
        let waiting: HashSet<_> = self.waiting.iter().map(|waiter| waiter.client).collect();
        let taken = &self.taken;
        self.given.retain(|client, _| taken.contains_key(client) || waiting.contains(client));
    }

    fn of(&self, client: Client) -> usize {
        self.taken.get(&client).copied().unwrap_or(0)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.turns.state();
            state.free += 1;
            if let Some(taken) = state.taken.get_mut(&self.client) {
                *taken -= 1;
                if *taken == 0 {
                    state.taken.remove(&self.client);
                }
            }
        }
        // Outside the lock: a waiter that gave up meanwhile drops its turn, and that calls this function again.
        while let Some((waiter, turn)) = self.turns.next() {
            drop(waiter.ready.send(turn));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn client(n: u8) -> Client {
        Client::of([192, 0, 2, n].into())
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn take(turns: &Turns, n: u8) -> Turn {
        match poll(pin!(turns.take(client(n)))) {
            Poll::Ready(turn) => turn,
            Poll::Pending => panic!("no turn for {n}"),
        }
    }

    #[test]
    fn one_client_never_has_all_turns_and_the_others_have_theirs_at_once() {
        let turns = Turns::new(3, 2);
        let first = [take(&turns, 1), take(&turns, 1)];
        let mut third = pin!(turns.take(client(1)));
        assert!(poll(third.as_mut()).is_pending());
        let other = take(&turns, 2);
        drop(first);
        assert!(poll(third.as_mut()).is_ready());
        drop(other);
    }

    #[test]
    fn who_has_fewest_turns_is_next_however_many_another_client_waits_for() {
        let turns = Turns::new(2, 2);
        let mut held = vec![take(&turns, 1), take(&turns, 1)];
        let mut many: Vec<_> = (0..50).map(|_| Box::pin(turns.take(client(1)))).collect();
        assert!(many.iter_mut().all(|one| poll(one.as_mut()).is_pending()));
        let mut late = pin!(turns.take(client(2)));
        assert!(poll(late.as_mut()).is_pending());
        drop(held.pop());
        let Poll::Ready(given) = poll(late.as_mut()) else { panic!("the late one has none, so it is next") };
        assert!(many.iter_mut().all(|one| poll(one.as_mut()).is_pending()));
        drop(held);
        assert!(poll(many[0].as_mut()).is_ready(), "within one client, first come first served");
        drop(given);
    }

    #[test]
    fn of_one_turn_nobody_gets_two_in_a_row_while_another_client_waits() {
        let turns = Turns::new(1, 1);
        let held = take(&turns, 1);
        let mut many: Vec<_> = (0..60).map(|_| Box::pin(turns.take(client(1)))).collect();
        assert!(many.iter_mut().all(|one| poll(one.as_mut()).is_pending()));
        let mut late = pin!(turns.take(client(2)));
        assert!(poll(late.as_mut()).is_pending());
        drop(held);
        let Poll::Ready(given) = poll(late.as_mut()) else { panic!("the other client had the last turn") };
        drop(given);
        assert!(poll(many[0].as_mut()).is_ready());
    }

    #[test]
    fn who_gives_up_is_passed_over_and_loses_no_turn() {
        let turns = Turns::new(1, 1);
        let held = take(&turns, 1);
        let mut gone = Box::pin(turns.take(client(2)));
        assert!(poll(gone.as_mut()).is_pending() && turns.is_wanted());
        drop(gone);
        assert!(!turns.is_wanted());
        // The waiter gives up after it was given a turn and before it knows.
        let mut late = Box::pin(turns.take(client(2)));
        assert!(poll(late.as_mut()).is_pending());
        drop(held);
        drop(late);
        drop(take(&turns, 3));
    }

    #[test]
    fn that_somebody_waits_is_told() {
        let turns = Turns::new(1, 1);
        let _held = take(&turns, 1);
        let mut wanted = pin!(turns.wanted());
        assert!(poll(wanted.as_mut()).is_pending());
        let mut waiter = pin!(turns.take(client(2)));
        assert!(poll(waiter.as_mut()).is_pending());
        assert!(poll(wanted.as_mut()).is_ready());
    }
}
