//! All upstreams, and which of them a repository's name belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use hab_oci::RepositoryName;

use crate::client::Client;
use crate::config::UpstreamConfig;
use crate::count::Count;
use crate::error::Error;
use crate::hub;
use crate::remote::{Remote, Upstream};

/// All upstreams by name.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(Arc<HashMap<String, Arc<Upstream>>>);

impl Upstreams {
    /// Prepares these upstreams; nothing is asked yet. The error is a sentence that names the upstream with a wrong
    /// configuration.
    pub fn new(configs: Vec<UpstreamConfig>) -> Result<Self, String> {
        let mut all = HashMap::new();
        for config in configs {
            let name = config.name.clone();
            if name.contains('/') || name.parse::<RepositoryName>().is_err() {
                return Err(format!("upstream {name:?}: its name must be one part of a repository's name"));
            }
            let upstream = Upstream::new(Client::new(config)?);
            if all.insert(name.clone(), Arc::new(upstream)).is_some() {
                return Err(format!("upstream {name:?} is configured twice"));
            }
        }
        Ok(Self(Arc::new(all)))
    }

    /// Asks each upstream how it wants clients to authenticate, so that the first pull need not. Returns a sentence for
    /// each upstream with a problem.
    pub async fn greet(&self) -> Vec<String> {
        let greeted = self.0.values().map(|upstream| async {
            let failure = upstream.client.greet().await.err()?;
            Some(format!("upstream {}: {failure}", upstream.client.config().name))
        });
        let mut wrong: Vec<String> =
            futures_util::future::join_all(greeted).await.into_iter().flatten().collect();
        wrong.sort();
        wrong
    }

    /// Counts requests to upstreams in `counter` from now on.
    pub fn count_in(&self, counter: &Arc<dyn Count>) {
        for upstream in self.0.values() {
            // Only the first counter is used: it belongs to the registry that is served.
            let _ = upstream.client.counter.set(counter.clone());
        }
    }

    /// An upstream by its name, or by another name of the same registry.
    fn named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.0.get(name).or_else(|| hub::other_names(name).find_map(|other| self.0.get(other)))
    }

    /// The upstream's repository that a request means; `None` if it means one of our own. [`Error::NameUnknown`] if
    /// `ns` is no upstream, [`Error::NotAllowed`] if the operator does not let it be pulled.
    pub fn find(&self, name: &RepositoryName, ns: Option<&str>) -> Result<Option<Remote>, Error> {
        let unknown = || Error::NameUnknown(name.clone());
        let (upstream, rest) = if let Some(ns) = ns {
            (self.named(ns).ok_or_else(unknown)?, name.as_str())
        } else {
            let Some((first, rest)) = name.as_str().split_once('/') else { return Ok(None) };
            match self.named(first) {
                Some(upstream) => (upstream, rest),
                None => return Ok(None),
            }
        };
        let config = upstream.client.config();
        let rest = &*hub::full_name(config, rest);
        if !config.repositories.is_empty() && !config.repositories.iter().any(|p| p.matches(rest)) {
            return Err(Error::NotAllowed(name.clone()));
        }
        let local = format!("{}/{rest}", config.name).parse().map_err(Error::Name)?;
        Ok(Some(Remote { upstream: upstream.clone(), name: rest.to_owned(), local }))
    }
}
