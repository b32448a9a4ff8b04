//! Replays entries of the journal into a catalog.

use hab_blobs::Error as BlobError;
use hab_oci::{Digest, RepositoryName, Tag};
use sqlx::{query, query_scalar};

use super::engine::Connection;
use super::{Catalog, Tx, facts, holding, manifests, repositories, size, stored, tags};
use crate::journal::{Change, JournalRecord};
use crate::store::manifest_of;
use crate::{Blobs, Error, Gaps, NewManifest, Result};

impl Catalog {
    /// Applies the changes of an entry in one transaction, and updates the count of changes. Returns the blobs that the
    /// entry needs and that are missing; changes that need them are left out.
    pub(crate) async fn replay(&self, entry: &JournalRecord, blobs: &Blobs) -> Result<Vec<Digest>> {
        let mut tx = self.begin().await?;
        let mut lost = Vec::new();
        let held: Option<i64> = query_scalar("SELECT changes FROM identity")
            .fetch_optional(&mut *tx)
            .await
            .map_err(Error::database("say how many changes it holds"))?;
        // Another process may have committed a change with this number since the journal was read.
        if held.is_some_and(|held| size(held) >= entry.number) {
            return Ok(lost);
        }
        for change in &entry.changes {
            if let Some(digest) = apply(&mut tx, change, entry.at, blobs).await? {
                lost.push(digest);
            }
        }
        query("UPDATE identity SET changes = $1")
            .bind(stored(entry.number))
            .execute(&mut *tx)
            .await
            .map_err(Error::database("count a change"))?;
        self.commit(tx).await?;
        Ok(lost)
    }

    /// Clears the list of doomed blobs: a collection made it from facts that are older than the blobs.
    pub(crate) async fn forget_doomed(&self) -> Result<()> {
        self.execute(query("DELETE FROM doomed"), "forget what was to be removed").await
    }
}

/// The largest manifest that is read, in bytes: far more than any registry accepts.
const MANIFEST: u64 = 64 << 20;

/// Applies one change. Returns the blob that the change needs if it is missing.
async fn apply(tx: &mut Tx, change: &Change, at: i64, blobs: &Blobs) -> Result<Option<Digest>> {
    match change {
        Change::Holds { repository, digest, size } => {
            if blobs.get(digest)? != Some(*size) {
                return Ok(Some(digest.clone()));
            }
            repositories::link(tx, &name(repository)?, digest, *size, at).await?;
        }
        Change::Received { digest, upstream } => {
            if blobs.get(digest)?.is_some() {
                holding::received(tx, digest, upstream).await?;
            }
        }
        Change::Leaves { repository, digest } => {
            remove(tx, "repository_blobs", repository, digest).await?;
        }
        Change::Manifest { repository, digest, media_type } => {
            return manifest(tx, &name(repository)?, digest, media_type, at, blobs).await;
        }
        Change::NoManifest { repository, digest } => {
            query("DELETE FROM tags WHERE repository = $1 AND digest = $2")
                .bind(repository)
                .bind(digest.to_string())
                .execute(&mut **tx)
                .await
                .map_err(Error::database("delete a manifest's tags"))?;
            remove(tx, "manifests", repository, digest).await?;
        }
        Change::Tag { repository, tag, digest } => {
            return move_tag(tx, &name(repository)?, &tags::tag(tag.clone())?, digest.as_ref(), at).await;
        }
        Change::Name { kind, name, digest, size } => {
            if facts::last(tx, kind, name).await?.as_ref() != Some(digest) {
                facts::add(tx, kind, name, digest, *size, at).await?;
            }
        }
        Change::Withdrawn { kind, name } => drop(facts::end(tx, kind, name, at).await?),
        Change::Build { plan, result, started, finished } => {
            facts::insert_build(tx, plan, result, *started, *finished).await?;
        }
    }
    Ok(None)
}

async fn manifest(
    tx: &mut Tx,
    repository: &RepositoryName,
    digest: &Digest,
    media_type: &str,
    at: i64,
    blobs: &Blobs,
) -> Result<Option<Digest>> {
    let bytes = match blobs.read(digest, MANIFEST) {
        Ok(Some(bytes)) => bytes,
        Ok(None) | Err(BlobError::Damaged { .. } | BlobError::TooLarge { .. }) => {
            return Ok(Some(digest.clone()));
        }
        Err(e) => return Err(e.into()),
    };
    let read = NewManifest { digest: digest.clone(), media_type: media_type.to_owned(), bytes };
    // It was a manifest when it was published, but this version may be stricter.
    let Ok(reading) = manifest_of(&read) else { return Ok(Some(digest.clone())) };
    repositories::ensure_repository(tx, repository, at).await?;
    manifests::insert(tx, repository, &reading, at).await?;
    match manifests::insert_edges(tx, repository, &reading, Gaps::All).await {
        Err(Error::WrongSize { digest, .. }) => Ok(Some(digest)),
        other => other.map(|()| None),
    }
}

async fn move_tag(
    tx: &mut Tx,
    repository: &RepositoryName,
    tag: &Tag,
    to: Option<&Digest>,
    at: i64,
) -> Result<Option<Digest>> {
    match to {
        None => tags::remove(tx, &[], repository, tag, at).await.map(|_| None),
        Some(to) if manifests::manifest_size(tx, repository, to).await?.is_none() => Ok(Some(to.clone())),
        Some(to) => tags::point(tx, &[], repository, tag, to, at).await.map(|()| None),
    }
}

async fn remove(
    connection: &mut Connection,
    table: &'static str,
    repository: &str,
    digest: &Digest,
) -> Result<()> {
    query(sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE repository = $1 AND digest = $2")))
        .bind(repository)
        .bind(digest.to_string())
        .execute(connection)
        .await
        .map_err(Error::database("take something out of a repository"))?;
    Ok(())
}

fn name(text: &str) -> Result<RepositoryName> {
    text.parse().map_err(|_| Error::Nonsense { what: "repository", value: text.to_owned() })
}
