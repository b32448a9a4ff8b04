//! Collection: removes content that nothing needs, while others push and pull.
//!
//! In a repository these are needed: a manifest that a tag points at; a manifest that was pushed or lost its last tag
//! within the grace period; a manifest that a needed index lists; a manifest whose subject is needed; and blobs that a
//! needed manifest names or that became members within the grace period. During a push the grace period of the
//! repository is counted back from the start of its oldest upload instead of from now. A blob is needed while any
//! repository holds it or a mirrored name stands for it. An upload that nobody wrote to for an hour is abandoned and
//! holds nothing back. See `catalog/collect.rs`.
//!
//! Why this is correct while others write:
//!
//! - The collection finds candidates on a snapshot, and checks each again in the transaction that deletes it. A client
//!   may have been told that a blob or manifest exists and refer to it after its removal. It is then told that the
//!   content is missing, because a publication checks in its own transaction. So an acknowledged manifest never lacks
//!   its parts.
//! - A manifest is deleted before the manifests that it lists, so that everything that can be pulled is whole, also
//!   after a kill.
//! - The row of a blob is deleted first, in a transaction that also records the blob as doomed. Its file is removed
//!   unless a holder of a pin has named the digest again: see `blobs/loose.rs`. After a kill between the two, the next
//!   collection removes the doomed files.
//! - Only loose files, which came through a push, are removed, whatever the catalog says.

use std::time::Duration;

use hab_oci::{Digest, RepositoryName, Tag};

use crate::blocking::blocking;
use crate::catalog::Sweep;
use crate::{Result, Retain, Span, Store, UploadId};

/// An upload without new bytes for this long is abandoned. A client that continues it later may have to push other
/// blobs again.
const SILENCE: Duration = Duration::from_secs(60 * 60);

/// The longest time for which an upload can hold a collection back, in seconds.
const LONGEST: i64 = 24 * 60 * 60;

/// What a collection may remove.
#[derive(Clone, Debug)]
pub struct Collection {
    /// Content that was pushed, or lost its last tag, within this time stays.
    pub grace: Span,
    /// Rules for tags that a collection deletes.
    pub retain: Vec<Retain>,
}

/// What a collection removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Tags that the rules let go.
    pub tags: Vec<(RepositoryName, Tag)>,
    /// The number of manifests.
    pub manifests: u64,
    /// The number of files, including those of manifests.
    pub blobs: u64,
    /// The bytes of these files.
    pub bytes: u64,
    /// Repositories in which uploads in progress hold the collection back: the name, the number of uploads, and the
    /// start of the oldest one in unix seconds.
    pub held_back: Vec<(RepositoryName, usize, i64)>,
}

impl Store {
    /// Runs a collection; `now` is in unix seconds. Only one runs at a time
    /// ([`Error::Collecting`](crate::Error::Collecting)).
    pub async fn collect(&self, rules: &Collection, now: i64) -> Result<Collected> {
        let blobs = self.blobs.clone();
        let _only = blocking(move || blobs.only_collector()).await?;
        let mut sweep = self.catalog.sweep(now);
        let mut collected = self.sweep(&mut sweep, rules, now).await?;
        // This includes files that a killed collection left.
        for batch in sweep.doomed().await?.chunks(BATCH) {
            for digest in batch {
                collected.add(self.remove_unnamed(digest).await?);
            }
            // No folder is locked here: a holder of a pin may be waiting for the turn to write.
            sweep.buried(batch).await?;
        }
        Ok(collected)
    }

    /// Returns what [`Store::collect`] would remove: runs the same statements in one transaction and rolls it back.
    /// Writers wait for it; readers do not.
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
    /// Keeps the uploads that somebody still writes to; an abandoned one holds nothing back.
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
    /// Whether nothing was removed.
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

/// How many rows one transaction deletes. Small, so that no writer waits for long.
pub(crate) const BATCH: usize = 100;

/// The text of the digest, or an empty text, which sorts before every digest.
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
        // Two pushes have found the file and have not named it in the catalog yet.
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
