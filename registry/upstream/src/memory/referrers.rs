//! Remembers lists of referrers that an upstream recently sent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hab_oci::{Digest, RepositoryName};
use hab_store::Referrer;

/// About how many bytes of descriptors are remembered altogether; a list that has more is not remembered.
const MOST: usize = 24 << 20;
/// The most repositories that are remembered to have no such endpoint.
const REPOSITORIES: usize = 50_000;

type Key = (RepositoryName, Digest);
type Listed = (Instant, Vec<Referrer>);

/// Lists of referrers that an upstream recently sent. A recent list is not asked for again; if the upstream no longer
/// answers, its last list still counts.
#[derive(Debug, Default)]
pub(crate) struct ReferrerLists {
    lists: HashMap<Key, Listed>,
    /// Repositories without the endpoint for referrers; it is tried again after the time to live.
    without_endpoint: HashMap<RepositoryName, Instant>,
}

impl ReferrerLists {
    pub(crate) fn get(&self, key: &Key) -> Option<&Listed> {
        self.lists.get(key)
    }

    pub(crate) fn put(&mut self, key: Key, list: Vec<Referrer>, ttl: Duration) {
        // An empty list is remembered too, and takes room.
        let weight = |list: &Vec<Referrer>| 256 + list.iter().map(weight).sum::<usize>();
        if weight(&list) > MOST {
            return;
        }
        let held: usize = self.lists.values().map(|(_, list)| weight(list)).sum();
        if held + weight(&list) > MOST {
            self.lists.retain(|_, (at, _)| at.elapsed() < ttl);
            let held: usize = self.lists.values().map(|(_, list)| weight(list)).sum();
            if held + weight(&list) > MOST {
                self.lists.clear();
            }
        }
        self.lists.insert(key, (Instant::now(), list));
    }

    /// Whether the upstream is known to have no endpoint for the referrers of a repository.
    pub(crate) fn lacks_endpoint(&self, repository: &RepositoryName, ttl: Duration) -> bool {
        self.without_endpoint.get(repository).is_some_and(|at| at.elapsed() < ttl)
    }

    /// Records that the upstream has no such endpoint.
    pub(crate) fn found_no_endpoint(&mut self, repository: RepositoryName) {
        if self.without_endpoint.len() >= REPOSITORIES {
            self.without_endpoint.clear();
        }
        self.without_endpoint.insert(repository, Instant::now());
    }
}

/// About how many bytes a referrer takes in memory.
fn weight(referrer: &Referrer) -> usize {
    let notes = referrer.annotations.iter().map(|(name, text)| 96 + name.len() + text.len()).sum::<usize>();
    256 + referrer.manifest.media_type.len() + referrer.artifact_type.as_ref().map_or(0, String::len) + notes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hab_store::ManifestRecord;

    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let entry = |n: u8| Referrer {
            manifest: ManifestRecord { media_type: String::new(), digest: Digest::of(&[n]), size: 1 },
            artifact_type: None,
            annotations: BTreeMap::from([("note".to_owned(), "x".repeat(100))]),
        };
        let mut known = ReferrerLists::default();
        for n in 0..30_u8 {
            let list = (0..9_999).map(|_| entry(n)).collect();
            known.put(("a/b".parse().unwrap(), Digest::of(&[n])), list, Duration::from_secs(60));
            let held: usize = known.lists.values().flat_map(|(_, list)| list).map(weight).sum();
            assert!(held <= MOST, "{held}");
        }
        assert!(known.get(&("a/b".parse().unwrap(), Digest::of(&[29]))).is_some());
    }
}
