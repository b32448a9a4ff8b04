//! Verifies passwords. The hashes are slow on purpose, so this never happens on a connection's thread, few run at a
//! time, and a right password is remembered for a while.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hab_turns::{Client, Turns};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::account::Account;
use super::error::AccessError;
use super::htpasswd::{Htpasswd, LONGEST};
use super::key::Key;
use super::version::Version;

/// How long a verified password is accepted without a new verification; ends early when the file changes.
const REMEMBERED: Duration = Duration::from_secs(300);
/// The most passwords that are remembered.
const MOST: usize = 10_000;
/// How long a password waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// Turns for verifications, for all password files together: one at a time for every two processors, so that logins
/// never take all of them. Clients take turns, so that one who guesses keeps nobody else from logging in.
pub(crate) fn turns() -> Turns {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let total = (processors / 2).max(1);
    Turns::new(total, (total / 2).max(1))
}

/// A file of passwords, and those that were verified recently.
pub(crate) struct Passwords {
    file: Arc<Htpasswd>,
    /// When each was verified, by an HMAC of name and password under a key that only this process has and never writes.
    /// Held for a map operation only.
    right: Mutex<HashMap<[u8; 32], Instant>>,
    key: Key,
    order: RandomState,
}

/// Whether a password is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// Too many other passwords are being verified.
    Busy,
    /// The client tried too often, and may try again after this time.
    TooOften(Duration),
}

impl Passwords {
    pub(crate) fn new(file: Htpasswd) -> Result<Self, AccessError> {
        let (key, order) = (Key::random()?, RandomState::new());
        Ok(Self { file: Arc::new(file), right: Mutex::default(), key, order })
    }

    /// An identifier of the account's current password. It does not reveal the password, and changes with it.
    pub(crate) fn version(&self, key: &Key, name: &Account) -> Option<Version> {
        self.file.written(name).map(|hash| Version::of(key, "password", name, hash.as_bytes()))
    }

    /// Whether this password was verified recently; computes no slow hash.
    pub(crate) fn remembers(&self, name: &Account, password: &str) -> bool {
        let mark = self.mark(name, password);
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(&mark).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    /// Verifies a password. An unknown name takes as long as a known one. `try_once` says whether the client may try at
    /// all. It is called just before the work begins, so that many requests with one right password at once count as
    /// one try.
    pub(crate) async fn verify(
        &self,
        (turns, client): (&Turns, Client),
        name: &Account,
        password: &str,
        try_once: impl FnOnce() -> Result<(), Duration>,
    ) -> Verdict {
        if self.remembers(name, password) {
            return Verdict::Right;
        }
        let known = self.file.hash(name);
        let stranger = || self.file.somebody(self.order.hash_one(name));
        let (Some(hash), true) = (known.or_else(stranger).cloned(), password.len() <= LONGEST) else {
            return Verdict::Wrong;
        };
        let Ok(turn) = timeout(TURN, turns.take(client)).await else {
            return Verdict::Busy;
        };
        if self.remembers(name, password) {
            return Verdict::Right;
        }
        if let Err(wait) = try_once() {
            return Verdict::TooOften(wait);
        }
        let bytes = password.to_owned().into_bytes();
        // The task takes the turn along, so that it is not given back before the work is done, even if no caller waits
        // any more. The turn is then held until the result is remembered.
        let work = spawn_blocking(move || (hash.is_of(&bytes), turn));
        let (is_right, _turn) = work.await.map_or((false, None), |(is_right, turn)| (is_right, Some(turn)));
        if !is_right || known.is_none() {
            return Verdict::Wrong;
        }
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= MOST {
            right.retain(|_, at| at.elapsed() < REMEMBERED);
        }
        if right.len() < MOST {
            right.insert(self.mark(name, password), Instant::now());
        }
        Verdict::Right
    }

    fn mark(&self, name: &Account, password: &str) -> [u8; 32] {
        // A name has no zero byte, so name and password cannot be shifted against each other.
        self.key.sign(&[name.as_str().as_bytes(), &[0], password.as_bytes()])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn passwords() -> (tempfile::TempDir, Passwords) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        crate::access::write_secret(&path, format!("alice:{}\n", bcrypt::hash("secret", 4).unwrap()));
        let passwords = Passwords::new(Htpasswd::load(&path).unwrap()).unwrap();
        (folder, passwords)
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_for_its_name_alone() {
        let (_folder, passwords) = passwords();
        let (alice, eve, turns) = ("alice".parse().unwrap(), "eve".parse().unwrap(), Turns::new(1, 1));
        let verify = |name, password| passwords.verify((&turns, Client::UNKNOWN), name, password, || Ok(()));
        for (name, password) in [(&alice, "wrong"), (&eve, "secret"), (&alice, ""), (&alice, "secret\0")] {
            assert_eq!(verify(name, password).await, Verdict::Wrong, "{password:?}");
        }
        assert!(!passwords.remembers(&alice, "secret"));
        assert_eq!(verify(&alice, "secret").await, Verdict::Right);
        assert!(passwords.remembers(&alice, "secret"));
        assert!(!passwords.remembers(&eve, "secret") && !passwords.remembers(&alice, "wrong"));
        // With the only turn taken, no password can be verified.
        let _held = turns.take(Client::UNKNOWN).await;
        assert_eq!(verify(&alice, "secret").await, Verdict::Right);
        let waits = timeout(Duration::from_millis(50), verify(&alice, "wrong")).await;
        assert!(waits.is_err(), "{waits:?}");
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(verify(&alice, &long).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn many_with_one_right_password_are_one_try_and_guesses_are_counted() {
        let (_folder, passwords) = passwords();
        let (alice, turns) = ("alice".parse().unwrap(), Turns::new(1, 1));
        let tries = std::sync::atomic::AtomicUsize::new(0);
        let count = || {
            tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        };
        let all = (0..20).map(|_| passwords.verify((&turns, Client::UNKNOWN), &alice, "secret", count));
        let said = futures_util::future::join_all(all).await;
        assert!(said.iter().all(|verdict| *verdict == Verdict::Right));
        assert_eq!(tries.into_inner(), 1);
        let wait = Duration::from_secs(3);
        let refused = passwords.verify((&turns, Client::UNKNOWN), &alice, "guess", || Err(wait)).await;
        assert_eq!(refused, Verdict::TooOften(wait));
    }
}
