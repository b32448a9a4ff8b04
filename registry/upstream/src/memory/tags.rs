//! Remembers lists of tags that an upstream recently sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hab_oci::{RepositoryName, Tag};

use super::locked;

/// The most tags that are remembered, of all repositories of one upstream together.
const MOST: usize = 300_000;

type Listed = (Instant, Arc<[Tag]>);

/// Lists of tags that an upstream recently sent. A recent list is not asked for again; if the upstream no longer
/// answers, its last list still counts.
#[derive(Debug, Default)]
pub(crate) struct TagLists {
    /// Held for a map operation, and for a walk over it when a list is added.
    lists: Mutex<HashMap<RepositoryName, Listed>>,
}

impl TagLists {
    pub(crate) fn get(&self, repository: &RepositoryName) -> Option<Listed> {
        locked(&self.lists).get(repository).cloned()
    }

    pub(crate) fn put(&self, repository: &RepositoryName, list: Arc<[Tag]>, ttl: Duration) {
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
