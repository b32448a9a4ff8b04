//! What an upstream lately said about manifests.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hab_oci::{Digest, RepositoryName};
use hab_store::Referrer;

/// How many bytes of descriptors are remembered altogether, about; a list that has more is not remembered.
const MOST: usize = 24 << 20;
/// How many repositories are known to have no such endpoint.
const REPOSITORIES: usize = 50_000;

type Key = (RepositoryName, Digest);
type Listed = (Instant, Vec<Referrer>);

/// What an upstream lately said. A list that was asked for lately is not asked for again; when nobody answers any more,
/// what was said last still counts.
#[derive(Debug, Default)]
pub(crate) struct Known {
    lists: HashMap<Key, Listed>,
    /// Repositories for which there is no such endpoint; it is looked for again after the time to live.
    without_endpoint: HashMap<RepositoryName, Instant>,
}

impl Known {
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

    /// Whether it is known to have no endpoint of referrers for a repository.
    pub(crate) fn lacks_endpoint(&self, repository: &RepositoryName, ttl: Duration) -> bool {
        self.without_endpoint.get(repository).is_some_and(|at| at.elapsed() < ttl)
    }

    /// It was just found to have none.
    pub(crate) fn found_no_endpoint(&mut self, repository: RepositoryName) {
        if self.without_endpoint.len() >= REPOSITORIES {
            self.without_endpoint.clear();
        }
        self.without_endpoint.insert(repository, Instant::now());
    }
}

/// Bytes that it takes in memory, about.
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
        let mut known = Known::default();
        for n in 0..30_u8 {
            let list = (0..9_999).map(|_| entry(n)).collect();
            known.put(("a/b".parse().unwrap(), Digest::of(&[n])), list, Duration::from_secs(60));
            let held: usize = known.lists.values().flat_map(|(_, list)| list).map(weight).sum();
            assert!(held <= MOST, "{held}");
        }
        assert!(known.get(&("a/b".parse().unwrap(), Digest::of(&[29]))).is_some());
    }
}
