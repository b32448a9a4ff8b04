//! The SQL of a collection; `crate::collect` says why it is correct.

use std::collections::BTreeSet;
use std::mem::take;
use std::ops::DerefMut;

use hab_oci::{Digest, RepositoryName, Tag};
use sqlx::{query, query_as, query_scalar};

use super::engine::Connection;
use super::needed::{dead_manifests, delete, is_listed, is_needed, lists};
use super::{Catalog, Tx, digest, listing, manifests, repositories, tags};
use crate::collect::{BATCH, behind};
use crate::journal::Change;
use crate::{Error, Result, Retain, UploadId};

/// One collection at work: it reads on snapshots and writes in transactions of [`BATCH`] rows. A dry one does both in
/// one transaction that is never committed.
#[derive(Debug)]
pub(crate) struct Sweep {
    catalog: Catalog,
    open: Option<Tx>,
    /// The changes of the transaction `open`.
    changes: Vec<Change>,
    /// The time of the collection, in unix seconds.
    now: i64,
    dry: bool,
}

impl Catalog {
    pub(crate) fn sweep(&self, now: i64) -> Sweep {
        Sweep { catalog: self.clone(), open: None, changes: Vec::new(), now, dry: false }
    }

    pub(crate) async fn dry_sweep(&self, now: i64) -> Result<Sweep> {
        Ok(Sweep { open: Some(self.begin().await?), dry: true, ..self.sweep(now) })
    }

    /// Whether the catalog has a row for a blob with this digest.
    pub(crate) async fn names_blob(&self, digest: &Digest) -> Result<bool> {
        let found: Option<i64> = query_scalar("SELECT 1 FROM blobs WHERE digest = $1")
            .bind(digest.to_string())
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::database("find a blob"))?;
        Ok(found.is_some())
    }
}

impl Sweep {
    async fn read(&mut self) -> Result<Box<dyn DerefMut<Target = Connection> + Send + '_>> {
        match &mut self.open {
            Some(tx) if self.dry => Ok(Box::new(&mut **tx)),
            _ => {
                let reader = self.catalog.readers.acquire().await;
                Ok(Box::new(reader.map_err(Error::database("be read"))?))
            }
        }
    }

    async fn write(&mut self) -> Result<&mut Connection> {
        let tx = match self.open.take() {
            Some(tx) => tx,
            None => self.catalog.begin().await?,
        };
        Ok(self.open.insert(tx))
    }

    /// Commits the batch, unless the run is dry.
    pub(crate) async fn commit_batch(&mut self) -> Result<()> {
        match self.open.take_if(|_| !self.dry) {
            Some(tx) => self.catalog.commit_changes(tx, self.now, take(&mut self.changes)).await,
            None => Ok(()),
        }
    }

    /// Deletes tags by the rules, if they have not moved since they were judged.
    pub(crate) async fn expire_tags(
        &mut self,
        repository: &RepositoryName,
        rules: &[Retain],
    ) -> Result<Vec<Tag>> {
        let now = self.now;
        if !rules.iter().any(|rule| rule.tags.repository.matches(repository.as_str())) {
            return Ok(Vec::new());
        }
        let rows = listing::tag_rows(&mut *self.read().await?, repository).await?;
        let immutable = self.catalog.immutable.clone();
        let mut gone = Vec::new();
        for batch in Retain::expired(rules, &immutable, repository, &rows, now).chunks(BATCH) {
            for row in batch {
                let connection = self.write().await?;
                if tags::moved(connection, repository, &row.tag).await? == Some(row.moved)
                    && tags::remove(connection, &immutable, repository, &row.tag, now).await?
                {
                    self.changes.push(tags::moves(repository, &row.tag, None));
                    gone.push(row.tag.clone());
                }
            }
            self.commit_batch().await?;
        }
        Ok(gone)
    }

    /// The uploads of a repository with their start in unix seconds, the oldest first.
    pub(crate) async fn uploads(&mut self, repository: &RepositoryName) -> Result<Vec<(UploadId, i64)>> {
        let rows: Vec<(String, i64)> =
            query_as("SELECT id, started FROM uploads WHERE repository = $1 ORDER BY started, id")
                .bind(repository.as_str())
                .fetch_all(&mut **self.read().await?)
                .await
                .map_err(Error::database("list a repository's uploads"))?;
        let upload = |(name, started): (String, i64)| match name.parse() {
            Ok(id) => Ok((id, started)),
            Err(_) => Err(Error::Nonsense { what: "upload", value: name }),
        };
        rows.into_iter().map(upload).collect()
    }

    /// Deletes the manifests that nothing needs and that are not younger than `since`.
    pub(crate) async fn drop_manifests(&mut self, repository: &RepositoryName, since: i64) -> Result<u64> {
        let dead = dead_manifests(&mut *self.read().await?, repository, since).await?;
        let mut left: BTreeSet<String> = dead.iter().cloned().collect();
        let mut queue = dead;
        let (mut dropped, mut batch) = (0, 0);
        // An index is deleted before the manifests that it lists. A manifest comes back into the queue when an index
        // that lists it is deleted.
        while let Some(manifest) = queue.pop() {
            if !left.contains(&manifest) {
                continue;
            }
            let connection = self.write().await?;
            if !is_listed(connection, repository, &manifest).await?
                && !is_needed(connection, repository, &manifest, since).await?
            {
                queue.extend(lists(connection, repository, &manifest).await?);
                delete(connection, repository, &manifest).await?;
                left.remove(&manifest);
                self.changes.push(manifests::no_manifest(repository, &digest(manifest)?));
                dropped += 1;
            }
            batch += 1;
            if batch == BATCH {
                batch = 0;
                self.commit_batch().await?;
            }
        }
        self.commit_batch().await?;
        // Indexes that list each other cannot exist, because of their hashes, but a catalog can hold such rows. Delete
        // all of them at once.
        for manifest in left {
            let connection = self.write().await?;
            if !is_needed(connection, repository, &manifest, since).await? {
                delete(connection, repository, &manifest).await?;
                self.changes.push(manifests::no_manifest(repository, &digest(manifest)?));
                dropped += 1;
            }
        }
        self.commit_batch().await?;
        Ok(dropped)
    }

    /// Removes from a repository the blobs that none of its manifests names and that are not younger than `since`.
    pub(crate) async fn drop_members(&mut self, repository: &RepositoryName, since: i64) -> Result<()> {
        const UNUSED: &str = "repository_blobs WHERE repository = $1 AND created <= $2 AND NOT EXISTS
            (SELECT 1 FROM edges e WHERE e.child = repository_blobs.digest AND e.repository = repository_blobs.repository
             AND e.kind IN ('config', 'layer', 'manifest'))";
        let mut last = None;
        loop {
            let unused: Vec<String> = query_scalar(sqlx::AssertSqlSafe(format!(
                "SELECT digest FROM {UNUSED} AND digest > $3 ORDER BY digest LIMIT {BATCH}"
            )))
            .bind(repository.as_str())
            .bind(since)
            .bind(behind(last.as_ref()))
            .fetch_all(&mut **self.read().await?)
            .await
            .map_err(Error::database("find unused members"))?;
            let Some(end) = unused.last() else { return Ok(()) };
            last = Some(digest(end.clone())?);
            for member in unused {
                let gone = query(sqlx::AssertSqlSafe(format!("DELETE FROM {UNUSED} AND digest = $3")))
                    .bind(repository.as_str())
                    .bind(since)
                    .bind(&member)
                    .execute(self.write().await?)
                    .await
                    .map_err(Error::database("take a blob out of a repository"))?
                    .rows_affected();
                if gone > 0 {
                    self.changes.push(repositories::leaves(repository, &digest(member)?));
                }
            }
            self.commit_batch().await?;
        }
    }

    /// Deletes the rows of blobs that no repository holds, and records these blobs as doomed.
    pub(crate) async fn doom_blobs(&mut self) -> Result<()> {
        // A mirrored file is never loose, so it stays anyway; the last condition keeps its row too.
        const UNHELD: &str = "blobs WHERE NOT EXISTS
                (SELECT 1 FROM repository_blobs held WHERE held.digest = blobs.digest)
            AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.digest = blobs.digest)
            AND NOT EXISTS (SELECT 1 FROM mirrored name WHERE name.digest = blobs.digest)";
        let mut last = None;
        loop {
            let unheld: Vec<String> = query_scalar(sqlx::AssertSqlSafe(format!(
                "SELECT digest FROM {UNHELD} AND digest > $1 ORDER BY digest LIMIT {BATCH}"
            )))
            .bind(behind(last.as_ref()))
            .fetch_all(&mut **self.read().await?)
            .await
            .map_err(Error::database("find blobs that nothing holds"))?;
            let Some(end) = unheld.last() else { return Ok(()) };
            last = Some(digest(end.clone())?);
            for blob in unheld {
                let connection = self.write().await?;
                let gone = query(sqlx::AssertSqlSafe(format!("DELETE FROM {UNHELD} AND digest = $1")))
                    .bind(&blob)
                    .execute(&mut *connection)
                    .await
                    .map_err(Error::database("forget a blob"))?
                    .rows_affected();
                if gone > 0 {
                    query("INSERT INTO doomed (digest) VALUES ($1) ON CONFLICT (digest) DO NOTHING")
                        .bind(&blob)
                        .execute(connection)
                        .await
                        .map_err(Error::database("mark a blob as doomed"))?;
                }
            }
            self.commit_batch().await?;
        }
    }

    /// The blobs whose files are to be removed.
    pub(crate) async fn doomed(&mut self) -> Result<Vec<Digest>> {
        let doomed: Vec<String> = query_scalar(
            "SELECT digest FROM doomed WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.digest = doomed.digest)
             ORDER BY digest",
        )
        .fetch_all(&mut **self.read().await?)
        .await
        .map_err(Error::database("list doomed blobs"))?;
        doomed.into_iter().map(digest).collect()
    }

    /// Removes blobs from the list of doomed ones, after their files were removed or were needed again. Only one
    /// collection runs at a time, so no newer entry of the same digest is lost.
    pub(crate) async fn buried(&mut self, blobs: &[Digest]) -> Result<()> {
        for blob in blobs {
            query("DELETE FROM doomed WHERE digest = $1")
                .bind(blob.to_string())
                .execute(self.write().await?)
                .await
                .map_err(Error::database("forget a doomed blob"))?;
        }
        self.commit_batch().await
    }
}
