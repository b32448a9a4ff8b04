//! What an upstream says about a manifest: its referrers, from the endpoint or by the tag schema.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use hab_oci::{Digest, RepositoryName};
use hab_store::Store;

use super::failure::Failure;
use super::{Freshness, Remote, locked};
use crate::error::Error;
use crate::referrers::Entry;

/// How many bytes of descriptors are remembered altogether, about; a list that has more is not remembered.
const MOST: usize = 24 << 20;
/// How many repositories are known to have no such endpoint.
const REPOSITORIES: usize = 50_000;

/// What an upstream lately said. A list that was asked for lately is not asked for again; when nobody answers any more,
/// what was said last still counts.
#[derive(Debug, Default)]
pub(super) struct Known {
    lists: HashMap<(RepositoryName, Digest), (Instant, Vec<Entry>)>,
    /// Repositories for which there is no such endpoint; it is looked for again after the time to live.
    without_endpoint: HashMap<RepositoryName, Instant>,
}

impl Known {
    fn get(&self, key: &(RepositoryName, Digest)) -> Option<&(Instant, Vec<Entry>)> {
        self.lists.get(key)
    }

    fn put(&mut self, key: (RepositoryName, Digest), list: Vec<Entry>, ttl: Duration) {
        // An empty list is remembered too, and takes room.
        let weight = |list: &Vec<Entry>| 256 + list.iter().map(Entry::weight).sum::<usize>();
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
}

impl Remote {
    /// What refers to a manifest, there and here, by digest.
    pub(crate) async fn referrers(
        &self,
        store: &Store,
        subject: &Digest,
        limit: usize,
    ) -> Result<(Vec<Entry>, Freshness), Error> {
        let (there, freshness) = self.referrers_there(subject, limit).await;
        let here = store.catalog.referrers(&self.local, subject).await?;
        let mut all: BTreeMap<Digest, Entry> = there.into_iter().map(|e| (e.digest.clone(), e)).collect();
        // What is here was read and checked, so it counts where both know of one.
        all.extend(here.into_iter().map(Entry::from).map(|e| (e.digest.clone(), e)));
        Ok((all.into_values().collect(), freshness))
    }

    async fn referrers_there(&self, subject: &Digest, limit: usize) -> (Vec<Entry>, Freshness) {
        let key = (self.local.clone(), subject.clone());
        let _turn = self.turn(&format!("referrers of {subject}")).await;
        let ttl = self.client().config().ttl;
        let last = locked(&self.upstream.known).get(&key).cloned();
        if let Some((at, list)) = &last
            && at.elapsed() < ttl
        {
            return (list.clone(), Freshness::Hit);
        }
        match self.ask_referrers(subject, limit).await {
            Ok(list) => {
                locked(&self.upstream.known).put(key, list.clone(), ttl);
                (list, Freshness::Miss)
            }
            Err(failure) => {
                let repository = &self.local;
                tracing::warn!(%repository, %subject, %failure, "referrers could not be looked up");
                (last.map(|(_, list)| list).unwrap_or_default(), Freshness::Stale)
            }
        }
    }

    /// Asks now, whenever it was last asked.
    pub(super) async fn ask_referrers(&self, subject: &Digest, limit: usize) -> Result<Vec<Entry>, Failure> {
        let client = self.client();
        if client.config().offline {
            return Err(Failure::Absent);
        }
        let ttl = client.config().ttl;
        let without = locked(&self.upstream.known).without_endpoint.get(&self.local).copied();
        if without.is_none_or(|at| at.elapsed() >= ttl) {
            match client.referrers(&self.name, subject).await {
                Err(Failure::Absent) => {}
                other => return other,
            }
            let mut known = locked(&self.upstream.known);
            if known.without_endpoint.len() >= REPOSITORIES {
                known.without_endpoint.clear();
            }
            known.without_endpoint.insert(self.local.clone(), Instant::now());
        }
        client.referrers_by_tag(&self.name, subject, limit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let entry = |n: u8| Entry {
            media_type: String::new(),
            digest: Digest::of(&[n]),
            size: 1,
            artifact_type: None,
            annotations: BTreeMap::from([("note".to_owned(), "x".repeat(100))]),
        };
        let mut known = Known::default();
        for n in 0..30_u8 {
            let list = (0..9_999).map(|_| entry(n)).collect();
            known.put(("a/b".parse().unwrap(), Digest::of(&[n])), list, Duration::from_secs(60));
            let held: usize = known.lists.values().flat_map(|(_, list)| list).map(Entry::weight).sum();
            assert!(held <= MOST, "{held}");
        }
        assert!(known.get(&("a/b".parse().unwrap(), Digest::of(&[29]))).is_some());
    }
}
