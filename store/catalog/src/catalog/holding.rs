//! Which upstream sent which blob; an upstream may claim only blobs that it sent.

use hab_oci::{Digest, Edge, RepositoryName};
use sqlx::{query, query_scalar};

use super::Catalog;
use super::engine::Connection;
use super::repositories::{ensure_blob, ensure_repository, holds, join, members};
use crate::journal::Change;
use crate::{Error, Result};

impl Catalog {
    /// Whether an upstream, given by its address, ever sent these bytes.
    pub async fn was_received(&self, digest: &Digest, upstream: &str) -> Result<bool> {
        let found: Option<i64> = query_scalar("SELECT 1 FROM received WHERE digest = $1 AND upstream = $2")
            .bind(digest.to_string())
            .bind(upstream)
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::database("find who sent a blob"))?;
        Ok(found.is_some())
    }

    /// Makes a blob that an upstream sent a member of its local repositories, and records which upstream sent it.
    pub(crate) async fn link_received(
        &self,
        repositories: &[RepositoryName],
        digest: &Digest,
        size: u64,
        upstream: &str,
        at: i64,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        ensure_blob(&mut tx, digest, size, None, at).await?;
        for repository in repositories {
            ensure_repository(&mut tx, repository, at).await?;
            join(&mut tx, repository, digest, at).await?;
        }
        received(&mut tx, digest, upstream).await?;
        let held = repositories.iter().map(|repository| holds(repository, digest, size));
        let sent = Change::Received { digest: digest.clone(), upstream: upstream.to_owned() };
        self.commit_changes(tx, at, held.chain([sent]).collect()).await
    }

    /// The first of these edges whose target the repository does not hold.
    pub(crate) async fn first_missing<'a>(
        &self,
        repository: &RepositoryName,
        edges: impl Iterator<Item = &'a Edge>,
    ) -> Result<Option<&'a Edge>> {
        let mut connection = self.readers.acquire().await.map_err(Error::database("be read"))?;
        let edges: Vec<_> = edges.collect();
        let wanted = edges.iter().map(|edge| &edge.digest).collect();
        let held = members(&mut connection, repository, &wanted).await?;
        Ok(edges.into_iter().find(|edge| !held.contains_key(&edge.digest)))
    }
}

/// Records that an upstream sent a blob. The blob must have a row.
pub(super) async fn received(connection: &mut Connection, digest: &Digest, upstream: &str) -> Result<()> {
    query(
        "INSERT INTO received (digest, upstream) VALUES ($1, $2) ON CONFLICT (digest, upstream) DO NOTHING",
    )
    .bind(digest.to_string())
    .bind(upstream)
    .execute(connection)
    .await
    .map_err(Error::database("note who sent a blob"))?;
    Ok(())
}
