//! The tags of an upstream's repository: those that are there, and those that are here.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hab_oci::{RepositoryName, Tag};
use hab_store::Store;

use super::failure::Failure;
use super::{Freshness, Remote, locked};
use crate::error::Error;

/// The most tags that are remembered, of all repositories of one upstream together.
const MOST: usize = 300_000;

type Listed = (Instant, Arc<[Tag]>);

/// Lists that an upstream lately sent. What was asked for lately is not asked for again; when nobody answers any
/// more, what was said last still counts.
#[derive(Debug, Default)]
pub(super) struct TagLists {
    /// Held for a map operation, and for a walk over it when a list is added.
    lists: Mutex<HashMap<RepositoryName, Listed>>,
}

impl TagLists {
    fn get(&self, repository: &RepositoryName) -> Option<Listed> {
        locked(&self.lists).get(repository).cloned()
    }

    fn put(&self, repository: &RepositoryName, list: Arc<[Tag]>, ttl: Duration) {
        let mut lists = locked(&self.lists);
        lists.remove(repository);
        let held = |lists: &HashMap<RepositoryName, Listed>| {
            // An empty list takes room, too.
            lists.values().map(|(_, list)| list.len() + 1).sum::<usize>() + list.len() + 1
        };
        if held(&lists) > MOST {
            lists.retain(|_, (at, _)| at.elapsed() < ttl);
        }
        if held(&lists) > MOST {
            lists.clear();
        }
        lists.insert(repository.clone(), (Instant::now(), list));
    }
}

impl Remote {
    /// Its tags, in byte order.
    pub(crate) async fn tags(&self, store: &Store) -> Result<(BTreeSet<Tag>, Freshness), Error> {
        let here = store.catalog.tags(&self.local, None, u32::MAX).await?;
        // What may not be pulled by tag is not asked for by tag.
        if self.client().config().digest_only || self.client().config().offline {
            if here.is_empty() && !store.catalog.has_repository(&self.local).await? {
                return Err(Error::NameUnknown(self.local.clone()));
            }
            return Ok((here.into_iter().collect(), Freshness::Hit));
        }
        let (there, freshness) = match self.tags_there().await {
            Ok(listed) => listed,
            Err(_) if !here.is_empty() => (Arc::default(), Freshness::Stale),
            Err(Failure::Absent) => return Err(Error::NameUnknown(self.local.clone())),
            Err(failure) => return Err(self.failed(failure)),
        };
        Ok((there.iter().cloned().chain(here).collect(), freshness))
    }

    /// One request for all who want the list at the same time.
    async fn tags_there(&self) -> Result<(Arc<[Tag]>, Freshness), Failure> {
        const WHAT: &str = "tags/list";
        let since = Instant::now();
        let _turn = self.turn(WHAT).await;
        let ttl = self.client().config().ttl;
        let last = self.upstream.tags.get(&self.local);
        if let Some((at, list)) = &last
            && (*at >= since || at.elapsed() < ttl)
        {
            return Ok((list.clone(), Freshness::Hit));
        }
        if self.is_absent(WHAT, since) {
            return Err(Failure::Absent);
        }
        match self.client().tags(&self.name).await {
            Ok(list) => {
                let list: Arc<[Tag]> = list.into();
                self.upstream.tags.put(&self.local, list.clone(), ttl);
                Ok((list, Freshness::Miss))
            }
            Err(Failure::Absent) => {
                self.was_absent(WHAT);
                Err(Failure::Absent)
            }
            Err(failure) => {
                tracing::warn!(repository = %self.local, %failure, "tags could not be listed");
                last.map(|(_, list)| (list, Freshness::Stale)).ok_or(failure)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let lists = TagLists::default();
        let tag: Tag = "v1".parse().unwrap();
        let list: Arc<[Tag]> = vec![tag; MOST / 4].into();
        for n in 0..10 {
            let name = format!("a/{n}").parse().unwrap();
            lists.put(&name, list.clone(), Duration::from_secs(3600));
            assert!(lists.get(&name).is_some(), "the newest one is always there");
            assert!(locked(&lists.lists).len() <= 4);
        }
    }
}
