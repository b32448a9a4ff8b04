//! Collection: what nothing needs goes, online, while others push and pull.
//!
//! Needed are, in a repository: what a tag points at; a manifest younger than the grace period, or whose last tag went
//! away within it; what an index lists that is needed; what has something needed as its subject; and blobs that a
//! needed manifest has, or that became members within the grace period. While a push is in progress in a repository,
//! its clock stands at the start of the oldest upload. A blob is needed while any repository holds it, or its name was
//! mirrored. An upload that nobody wrote to for an hour is abandoned, and holds nothing back. See `catalog/collect.rs`.
//!
//! What keeps this right while others write:
//!
//! - What goes is found on a snapshot, and looked at again in the transaction that takes it out. A client that was told
//!   before that a blob or manifest is there, and refers to it afterwards, is told that it is missing: publication looks
//!   in its own transaction. So nothing that was acknowledged is ever without its parts.
//! - A manifest goes before what it lists, so that whatever can be pulled is whole, also after a kill.
//! - The row of a blob goes first, in a transaction that also writes the blob down as doomed; its file goes when no one
//!   who pins its digest has named it again: see `blobs/loose.rs`. A kill between the two leaves the doomed ones for the
//!   next collection.
//! - Only files that came through a push are removed, whatever the catalog says.

use std::time::Duration;

use hab_oci::{Digest, RepositoryName, Tag};

use crate::catalog::Sweep;
use crate::store::blocking;
use crate::{Result, Retain, Span, Store, UploadId};

/// An upload that got nothing for this long is abandoned: whoever comes back to it pushes what belongs to it again.
const SILENCE: Duration = Duration::from_secs(60 * 60);

/// For how long an upload holds a collection back, in seconds, however slowly it goes on.
const LONGEST: i64 = 24 * 60 * 60;

/// What may go.
#[derive(Clone, Debug)]
pub struct Collection {
    /// What was pushed, or lost its last tag, within this time stays.
    pub grace: Span,
    /// Tags that may go by themselves.
    pub retain: Vec<Retain>,
}

/// What went, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Tags, by the rules.
    pub tags: Vec<(RepositoryName, Tag)>,
    /// Manifests.
    pub manifests: u64,
    /// Files of blobs, those of manifests among them.
    pub blobs: u64,
    /// How many bytes these files have.
    pub bytes: u64,
    /// Repositories in which something stays a while longer because of uploads in progress, how many of these there are,
    /// and when the oldest began, in unix seconds.
    pub held_back: Vec<(RepositoryName, usize, i64)>,
}

impl Store {
    /// Collects, at a time in unix seconds. One collection runs at a time ([`Error::Collecting`](crate::Error::Collecting)).
    pub async fn collect(&self, rules: &Collection, now: i64) -> Result<Collected> {
        let blobs = self.blobs.clone();
        let _only = blocking(move || blobs.only_collector()).await?;
        let mut sweep = self.catalog.sweep(now);
        let mut collected = self.sweep(&mut sweep, rules, now).await?;
        // Also what an earlier collection left when it was killed.
        for batch in sweep.doomed().await?.chunks(BATCH) {
            for digest in batch {
                collected.add(self.remove_unnamed(digest).await?);
            }
            // Not while a folder is locked: who pins may be waiting to write.
            sweep.buried(batch).await?;
        }
        Ok(collected)
    }

    /// What [`Store::collect`] would do now: the same statements, in one transaction that is taken back. Writers wait
    /// for it; readers do not.
    pub async fn would_collect(&self, rules: &Collection, now: i64) -> Result<Collected> {
        let mut sweep = self.catalog.dry_sweep(now).await?;
        let mut collected = self.sweep(&mut sweep, rules, now).await?;
        let (blobs, doomed) = (self.blobs.clone(), sweep.doomed().await?);
        let sizes =
            blocking(move || doomed.iter().map(|digest| blobs.loose(digest)).collect::<Result<Vec<_>, _>>());
        sizes.await?.into_iter().for_each(|size| collected.add(size));
        Ok(collected)
    }

    /// Removes a loose file that the catalog does not name, and returns its size.
    pub(crate) async fn remove_unnamed(&self, digest: &Digest) -> Result<Option<u64>> {
        let (blobs, key) = (self.blobs.clone(), digest.clone());
        let alone = blocking(move || blobs.alone(&key)).await?;
        if self.catalog.names_blob(digest).await? {
            return Ok(None);
        }
        let (blobs, key) = (self.blobs.clone(), digest.clone());
        blocking(move || blobs.remove_loose(&key, &alone)).await
    }

    async fn sweep(&self, sweep: &mut Sweep, rules: &Collection, now: i64) -> Result<Collected> {
        let mut collected = Collected::default();
        for repository in &self.catalog.repository_names().await? {
            for tag in sweep.expire_tags(repository, &rules.retain).await? {
                collected.tags.push((repository.clone(), tag));
            }
            let mut uploads = sweep.uploads(repository).await?;
            uploads.retain(|(_, started)| now - started < LONGEST);
            let uploads = self.live_uploads(uploads).await?;
            let oldest = uploads.iter().map(|(_, started)| *started).min().filter(|oldest| *oldest < now);
            if let Some(oldest) = oldest {
                collected.held_back.push((repository.clone(), uploads.len(), oldest));
            }
            let since = oldest.unwrap_or(now) - rules.grace.seconds();
            collected.manifests += sweep.drop_manifests(repository, since).await?;
            sweep.drop_members(repository, since).await?;
        }
        sweep.doom_blobs().await?;
        Ok(collected)
    }
}

impl Store {
    /// Of some uploads those that somebody still writes to: one that was abandoned holds nothing back.
    async fn live_uploads(&self, uploads: Vec<(UploadId, i64)>) -> Result<Vec<(UploadId, i64)>> {
        if uploads.is_empty() {
            return Ok(uploads);
        }
        let blobs = self.blobs.clone();
        blocking(move || {
            let live =
                |(id, _): &(UploadId, i64)| Ok(blobs.upload_silence(id)?.is_some_and(|it| it < SILENCE));
            let marked = uploads.into_iter().map(|upload| Ok((live(&upload)?, upload)));
            let marked = marked.collect::<Result<Vec<_>, hab_blobs::Error>>()?;
            Ok::<_, hab_blobs::Error>(
                marked.into_iter().filter_map(|(live, upload)| live.then_some(upload)).collect(),
            )
        })
        .await
    }
}

impl Collected {
    /// Whether nothing went.
    pub fn is_nothing(&self) -> bool {
        self.tags.is_empty() && self.manifests == 0 && self.blobs == 0
    }

    fn add(&mut self, file: Option<u64>) {
        if let Some(bytes) = file {
            self.blobs += 1;
            self.bytes += bytes;
        }
    }
}

/// How many rows one transaction takes out, so that no writer waits for long.
pub(crate) const BATCH: usize = 100;

/// A digest that is behind none.
pub(crate) fn behind(last: Option<&Digest>) -> String {
    last.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_stays_while_it_is_pinned_and_after_that_if_it_was_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let repository: RepositoryName = "a".parse().unwrap();
        let rules = Collection { grace: Span::hours(0), retain: Vec::new() };
        let digests = [b"named".as_slice(), b"not named"].map(Digest::of);
        for bytes in [b"named".as_slice(), b"not named"] {
            let mut writer = store.blobs.writer().unwrap();
            writer.add(bytes).unwrap();
            store.keep_blob(&repository, writer, &Digest::of(bytes), 1).await.unwrap();
        }
        // Two pushes that have found the file, and have not said so yet.
        let pin = store.blobs.pin(&digests).unwrap();
        let collecting = tokio::spawn({
            let store = store.clone();
            async move { store.collect(&rules, 5).await }
        });
        while store.catalog.names_blob(&digests[0]).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        for digest in &digests {
            assert!(store.blobs.get(digest).unwrap().is_some(), "it is pinned");
        }
        store.catalog.link_blob(&repository, &digests[0], 5, 9).await.unwrap();
        drop(pin);
        assert_eq!(collecting.await.unwrap().unwrap().blobs, 1);
        assert_eq!(store.blobs.read(&digests[0], 1 << 30).unwrap().unwrap(), b"named");
        assert_eq!(store.blobs.get(&digests[1]).unwrap(), None);
    }
}
