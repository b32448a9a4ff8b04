//! When manifests were last pulled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hab_oci::{Digest, RepositoryName};

use crate::{Catalog, Result};

/// Pulls that were seen and are not in the catalog yet, so that no reader waits for a writer. A clone is another handle
/// on the same ones.
#[derive(Clone, Debug, Default)]
pub struct Pulls {
    /// Guards when each manifest was last pulled; held for a map operation.
    seen: Arc<Mutex<Seen>>,
}

type Seen = HashMap<(RepositoryName, Digest), i64>;

impl Pulls {
    /// More different manifests than these between two recordings are not remembered: this is a guide, not a ledger.
    const MOST: usize = 100_000;

    /// Notes a pull at a time, in unix seconds.
    pub fn saw(&self, repository: &RepositoryName, manifest: &Digest, at: i64) {
        let mut seen = self.seen();
        if seen.len() < Self::MOST {
            seen.insert((repository.clone(), manifest.clone()), at);
        }
    }

    /// Writes what was seen into the catalog. What could not be written is tried again with the next recording.
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
        // A panic while it is held cannot leave half a map operation behind.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
