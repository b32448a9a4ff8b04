//! Remembers which manifests were approved.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hab_oci::{Digest, RepositoryName};

/// The most decisions that are remembered.
const MOST: usize = 100_000;

/// Approvals, and when signatures were asked for. Lost with the process: all of it can be found out again.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    approved: HashMap<Key, Approved>,
    /// When upstream was asked for signatures of a manifest.
    asked: HashMap<Key, Instant>,
}

type Key = (RepositoryName, Digest);

impl Verdicts {
    /// How a manifest was approved, if it was.
    pub(super) fn approved(&self, key: &Key) -> Option<Approved> {
        self.approved.get(key).copied()
    }

    /// Records that a manifest was approved.
    pub(super) fn approve(&mut self, key: Key, approved: Approved) {
        if self.approved.len() >= MOST {
            self.approved.clear();
        }
        self.approved.insert(key, approved);
    }

    /// Whether upstream was asked for a manifest's signatures no longer than `ttl` ago.
    pub(super) fn was_asked(&self, key: &Key, ttl: Duration) -> bool {
        self.asked.get(key).is_some_and(|at| at.elapsed() < ttl)
    }

    /// Records that the upstream was asked just now.
    pub(super) fn asked(&mut self, key: Key, ttl: Duration) {
        if self.asked.len() >= MOST {
            self.asked.retain(|_, at| at.elapsed() < ttl);
        }
        self.asked.insert(key, Instant::now());
    }
}

/// Why a manifest may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Approved {
    /// It is signed, or an index that lists it is. It may be served at any tag.
    Signed,
    /// It has only signatures of others. It may be served only as such.
    Signature,
}
