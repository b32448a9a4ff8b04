//! Remembers sizes that an upstream recently stated, of blobs that are not here.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hab_oci::{Digest, RepositoryName};

use super::locked;

/// The most sizes that are remembered.
const MOST: usize = 50_000;

type Key = (RepositoryName, Digest);

/// Sizes of blobs. The size of a digest never changes; that its repository still holds it counts for the time to live.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    /// Held for a map operation, and for a walk over it when it is full.
    said: Mutex<HashMap<Key, (Instant, u64)>>,
}

impl Sizes {
    pub(crate) fn get(&self, key: &Key, since: Instant, ttl: Duration) -> Option<u64> {
        let said = locked(&self.said).get(key).copied();
        said.filter(|(at, _)| *at >= since || at.elapsed() < ttl).map(|(_, size)| size)
    }

    pub(crate) fn put(&self, key: Key, size: u64, ttl: Duration) {
        let mut said = locked(&self.said);
        if said.len() >= MOST {
            said.retain(|_, (at, _)| at.elapsed() < ttl);
            if said.len() >= MOST {
                said.clear();
            }
        }
        said.insert(key, (Instant::now(), size));
    }
}
