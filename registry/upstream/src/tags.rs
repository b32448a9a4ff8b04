//! The tags of an upstream's repository: those of the upstream, and those that are here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use hab_oci::Tag;
use hab_store::Store;

use crate::error::Error;
use crate::failure::Failure;
use crate::freshness::Freshness;
use crate::remote::Remote;

impl Remote {
    /// Its tags, in byte order: those of the upstream, and those that are here.
    pub async fn tags(&self, store: &Store) -> Result<(BTreeSet<Tag>, Freshness), Error> {
        let here = store.catalog.tags(&self.local, None, u32::MAX).await?;
        // If tags may not be pulled, the upstream is not asked for them.
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

    /// Lists the upstream's tags. All clients that want the list at the same time share one request.
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
