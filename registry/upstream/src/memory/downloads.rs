//! Running downloads from one upstream.

use std::collections::HashMap;
use std::sync::Mutex;

use hab_oci::{Digest, RepositoryName};

use super::locked;
use crate::download::Download;

/// Running downloads from one upstream, by digest and by the repository that they come for.
#[derive(Debug, Default)]
pub(crate) struct Downloads(
    /// Held for map operations only.
    Mutex<HashMap<Digest, HashMap<RepositoryName, Download>>>,
);

impl Downloads {
    pub(crate) fn of(&self, digest: &Digest, repository: &RepositoryName) -> Option<Download> {
        locked(&self.0).get(digest)?.get(repository).cloned()
    }

    /// A download of this blob for any repository.
    pub(crate) fn any(&self, digest: &Digest) -> Option<Download> {
        locked(&self.0).get(digest)?.values().next().cloned()
    }

    pub(crate) fn add(&self, digest: &Digest, repository: &RepositoryName, download: &Download) {
        let mut all = locked(&self.0);
        all.entry(digest.clone()).or_default().insert(repository.clone(), download.clone());
        drop(all);
        // The download may have ended before it was in the map.
        if download.is_over() {
            self.remove(digest, download);
        }
    }

    /// Removes a download, for whichever repositories it came.
    pub(crate) fn remove(&self, digest: &Digest, download: &Download) {
        let mut all = locked(&self.0);
        if let Some(of_digest) = all.get_mut(digest) {
            of_digest.retain(|_, other| !other.is(download));
            if of_digest.is_empty() {
                all.remove(digest);
            }
        }
    }
}
