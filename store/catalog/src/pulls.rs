//! Remembers when manifests were last pulled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hab_oci::{Digest, RepositoryName};

use crate::{Catalog, Result};

/// Pulls that are not in the catalog yet. They are collected here so that no reader waits for a writer. A clone is
/// another handle on the same pulls.
#[derive(Clone, Debug, Default)]
pub struct Pulls {
    /// Guards the times of the last pulls. Held for a map operation.
    seen: Arc<Mutex<Seen>>,
}

type Seen = HashMap<(RepositoryName, Digest), i64>;

impl Pulls {
    /// The most manifests that are remembered between two recordings. Losing a pull is fine: the times only guide rules
    /// about tags.
    const MOST: usize = 100_000;

    /// Notes a pull at a time, in unix seconds.
    pub fn saw(&self, repository: &RepositoryName, manifest: &Digest, at: i64) {
        let mut seen = self.seen();
        if seen.len() < Self::MOST {
            seen.insert((repository.clone(), manifest.clone()), at);
        }
    }

    /// Writes the remembered pulls into the catalog. After a failure they are written with the next recording.
    pub async fn record(&self, catalog: &Catalog) -> Result<()> {
        let seen = std::mem::take(&mut *self.seen());
        if seen.is_empty() {
            return Ok(());
        }
        let recorded = catalog.record_pulls(&seen).await;
        if recorded.is_err() {
            let mut again = self.seen();
            for (key, at) in seen {
                again.entry(key).or_insert(at);
            }
        }
        recorded
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // A poisoned lock is fine: a panic cannot leave a map operation half done.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
