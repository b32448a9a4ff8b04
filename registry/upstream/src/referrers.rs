//! Asks an upstream for the referrers of a manifest, by the endpoint or by the tag schema.

use std::collections::BTreeMap;

use hab_oci::Digest;
use hab_store::{Referrer, Store};

use crate::error::Error;
use crate::failure::Failure;
use crate::freshness::Freshness;
use crate::memory::locked;
use crate::remote::Remote;

impl Remote {
    /// The referrers of a manifest, those of the upstream and those that are here, sorted by digest. `limit`: bytes of
    /// a manifest.
    pub async fn referrers(
        &self,
        store: &Store,
        subject: &Digest,
        limit: usize,
    ) -> Result<(Vec<Referrer>, Freshness), Error> {
        let (there, freshness) = self.referrers_there(subject, limit).await;
        let here = store.catalog.referrers(&self.local, subject).await?;
        // A referrer that is here was read and checked, so it takes precedence over the upstream's entry.
        let all = there.into_iter().chain(here).map(|referrer| (referrer.manifest.digest.clone(), referrer));
        let all: BTreeMap<Digest, Referrer> = all.collect();
        Ok((all.into_values().collect(), freshness))
    }

    async fn referrers_there(&self, subject: &Digest, limit: usize) -> (Vec<Referrer>, Freshness) {
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

    /// Asks the upstream now, whenever it was last asked.
    pub(crate) async fn ask_referrers(
        &self,
        subject: &Digest,
        limit: usize,
    ) -> Result<Vec<Referrer>, Failure> {
        let client = self.client();
        if client.config().offline {
            return Err(Failure::Absent);
        }
        let ttl = client.config().ttl;
        if !locked(&self.upstream.known).lacks_endpoint(&self.local, ttl) {
            match client.referrers(&self.name, subject).await {
                Err(Failure::Absent) => {}
                other => return other,
            }
            locked(&self.upstream.known).found_no_endpoint(self.local.clone());
        }
        client.referrers_by_tag(&self.name, subject, limit).await
    }
}
