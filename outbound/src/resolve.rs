//! Resolves names to addresses, and refuses inner ones: this is the last moment before a connection.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::is_inner;
use crate::problem::{InnerHost, UnknownName};

/// The most hosts that are remembered. When the table is full, every host that is not in it counts as one that was
/// outside.
const MOST: usize = 10_000;

/// The hosts that were resolved, and whether each had only inner addresses. A host that was outside once stays outside,
/// so a name gains nothing by resolving to an inner address the next time.
#[derive(Debug, Default)]
pub(crate) struct Hosts(Mutex<BTreeMap<String, bool>>);

impl Hosts {
    /// Whether a host ever had an address outside.
    pub(crate) fn was_outside(&self, host: &str) -> bool {
        let hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match hosts.get(host) {
            Some(inner) => !inner,
            // If the table is full, this host may have been seen and not stored: assume that it was outside.
            None => hosts.len() >= MOST,
        }
    }

    pub(crate) fn saw(&self, host: &str, inner: bool) {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get_mut(host) {
            *known &= inner;
        } else if hosts.len() < MOST {
            hosts.insert(host.to_owned(), inner);
        }
    }
}

/// How to look up a name in tests; the system resolves names that it returns `None` for.
pub(crate) type LookUp = Arc<dyn Fn(&str) -> Option<io::Result<Vec<SocketAddr>>> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Resolver {
    pub(crate) hosts: Arc<Hosts>,
    /// Whether to refuse hosts with an inner address.
    pub(crate) outside_only: bool,
    pub(crate) table: Option<LookUp>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (hosts, outside_only) = (Arc::clone(&self.hosts), self.outside_only);
        let known = self.table.as_ref().and_then(|table| table(name.as_str()));
        Box::pin(async move {
            let host = name.as_str();
            let found: io::Result<Vec<SocketAddr>> = match known {
                Some(found) => found,
                None => tokio::net::lookup_host((host, 0)).await.map(Iterator::collect),
            };
            let found = found.map_err(UnknownName)?;
            if found.is_empty() {
                return Err(UnknownName(io::Error::other("it has no address")).into());
            }
            // One inner address among others is enough to refuse: the connection could choose it.
            if outside_only && found.iter().any(|address| is_inner(address.ip())) {
                return Err(InnerHost(host.to_owned()).into());
            }
            hosts.saw(host, found.iter().all(|address| is_inner(address.ip())));
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_was_outside_once_stays_outside() {
        let hosts = Hosts::default();
        assert!(!hosts.was_outside("h.example"));
        hosts.saw("h.example", true);
        assert!(!hosts.was_outside("h.example"));
        hosts.saw("h.example", false);
        hosts.saw("h.example", true);
        assert!(hosts.was_outside("h.example"));
    }

    #[test]
    fn many_names_fill_no_memory_and_gain_nothing() {
        let hosts = Hosts::default();
        (0..MOST + 10).for_each(|n| hosts.saw(&format!("{n}.example"), true));
        assert_eq!(hosts.0.lock().unwrap().len(), MOST);
        assert!(hosts.was_outside("one-more.example"));
    }
}
