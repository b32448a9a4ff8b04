//! Repositories, and which blobs are members of them.

use std::collections::{BTreeSet, HashMap};

use hab_oci::{Digest, RepositoryName};
use sqlx::query;
use sqlx::query_scalar;

use super::engine::Connection;
use super::{Catalog, size, stored};
use crate::journal::Change;
use crate::{Error, Result};

impl Catalog {
    /// Whether anything was ever stored in this repository.
    pub async fn has_repository(&self, repository: &RepositoryName) -> Result<bool> {
        let found: Option<i64> = query_scalar("SELECT 1 FROM repositories WHERE name = $1")
            .bind(repository.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::database("find a repository"))?;
        Ok(found.is_some())
    }

    /// The size of a blob that is a member of this repository, or `None`.
    pub async fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>> {
        let mut connection = self.readers.acquire().await.map_err(Error::database("be read"))?;
        member(&mut connection, repository, digest).await
    }

    /// Makes a finished blob a member of a repository, and creates the repository if it is missing. `at` is in unix
    /// seconds.
    pub async fn link_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        at: i64,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        link(&mut tx, repository, digest, size, at).await?;
        self.commit_changes(tx, at, vec![holds(repository, digest, size)]).await
    }

    /// At most `most` repositories that hold a blob.
    pub async fn holders(&self, digest: &Digest, most: u32) -> Result<Vec<RepositoryName>> {
        let names: Vec<String> = query_scalar(
            "SELECT repository FROM repository_blobs WHERE digest = $1 ORDER BY repository LIMIT $2",
        )
        .bind(digest.to_string())
        .bind(i64::from(most))
        .fetch_all(&self.readers)
        .await
        .map_err(Error::database("find the holders of a blob"))?;
        let parse =
            |name: String| name.parse().map_err(|_| Error::Nonsense { what: "repository", value: name });
        names.into_iter().map(parse).collect()
    }

    /// Makes a blob of one repository also a member of another; `false` if the first does not hold it.
    pub async fn mount_blob(
        &self,
        from: &RepositoryName,
        to: &RepositoryName,
        digest: &Digest,
        at: i64,
    ) -> Result<bool> {
        let mut tx = self.begin().await?;
        let Some(size) = member(&mut tx, from, digest).await? else { return Ok(false) };
        ensure_repository(&mut tx, to, at).await?;
        join(&mut tx, to, digest, at).await?;
        self.commit_changes(tx, at, vec![holds(to, digest, size)]).await?;
        Ok(true)
    }

    /// Removes a blob from a repository; `false` if it was not a member. The bytes stay.
    ///
    /// [`Error::InUse`] if a manifest of the repository points at it.
    pub async fn unlink_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let mut tx = self.begin().await?;
        let used: Option<i64> = query_scalar(
            "SELECT 1 FROM edges
             WHERE child = $1 AND repository = $2 AND kind IN ('config', 'layer', 'manifest') LIMIT 1",
        )
        .bind(digest.to_string())
        .bind(repository.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(Error::database("look for users of a blob"))?;
        if used.is_some() {
            return Err(Error::InUse { repository: repository.clone(), digest: digest.clone() });
        }
        let removed = query("DELETE FROM repository_blobs WHERE repository = $1 AND digest = $2")
            .bind(repository.as_str())
            .bind(digest.to_string())
            .execute(&mut *tx)
            .await
            .map_err(Error::database("remove a blob"))?
            .rows_affected();
        let changes = if removed > 0 { vec![leaves(repository, digest)] } else { Vec::new() };
        self.commit_changes(tx, hab_clock::now(), changes).await?;
        Ok(removed > 0)
    }
}

pub(super) fn holds(repository: &RepositoryName, digest: &Digest, size: u64) -> Change {
    Change::Holds { repository: repository.to_string(), digest: digest.clone(), size }
}

pub(super) fn leaves(repository: &RepositoryName, digest: &Digest) -> Change {
    Change::Leaves { repository: repository.to_string(), digest: digest.clone() }
}

pub(super) async fn link(
    connection: &mut Connection,
    repository: &RepositoryName,
    digest: &Digest,
    size: u64,
    at: i64,
) -> Result<()> {
    ensure_repository(&mut *connection, repository, at).await?;
    ensure_blob(&mut *connection, digest, size, None, at).await?;
    join(connection, repository, digest, at).await
}

pub(super) async fn member(
    connection: &mut Connection,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<u64>> {
    let found: Option<i64> = query_scalar(
        "SELECT b.size FROM repository_blobs r JOIN blobs b ON b.digest = r.digest
         WHERE r.repository = $1 AND r.digest = $2 AND b.damaged IS NULL",
    )
    .bind(repository.as_str())
    .bind(digest.to_string())
    .fetch_optional(connection)
    .await
    .map_err(Error::database("find a blob"))?;
    Ok(found.map(size))
}

/// The digests and sizes of the given blobs that are members.
pub(super) async fn members(
    connection: &mut Connection,
    repository: &RepositoryName,
    digests: &BTreeSet<&Digest>,
) -> Result<HashMap<Digest, u64>> {
    let sql = "SELECT b.digest, b.size FROM repository_blobs r JOIN blobs b ON b.digest = r.digest
         WHERE b.damaged IS NULL AND r.repository = ";
    super::sizes(connection, (sql, " AND r.digest IN ("), repository, digests, "find blobs").await
}

pub(super) async fn ensure_repository(
    connection: &mut Connection,
    name: &RepositoryName,
    at: i64,
) -> Result<()> {
    query("INSERT INTO repositories (name, created) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(name.as_str())
        .bind(at)
        .execute(connection)
        .await
        .map_err(Error::database("add a repository"))?;
    Ok(())
}

/// Adds the row of a blob if it is missing, and clears its mark of damage: the caller has just made sure that the file
/// exists.
pub(super) async fn ensure_blob(
    connection: &mut Connection,
    digest: &Digest,
    size: u64,
    media_type: Option<&str>,
    at: i64,
) -> Result<()> {
    query(
        "INSERT INTO blobs (digest, size, media_type, created) VALUES ($1, $2, $3, $4)
         ON CONFLICT (digest) DO UPDATE SET damaged = NULL",
    )
    .bind(digest.to_string())
    .bind(stored(size))
    .bind(media_type)
    .bind(at)
    .execute(connection)
    .await
    .map_err(Error::database("add a blob"))?;
    Ok(())
}

/// Makes a blob a member. If it was one already, its grace starts again: the client that sent it is about to push a
/// manifest that needs it.
pub(super) async fn join(
    connection: &mut Connection,
    repository: &RepositoryName,
    digest: &Digest,
    at: i64,
) -> Result<()> {
    query(
        "INSERT INTO repository_blobs (repository, digest, created) VALUES ($1, $2, $3)
         ON CONFLICT (repository, digest) DO UPDATE SET created = excluded.created",
    )
    .bind(repository.as_str())
    .bind(digest.to_string())
    .bind(at)
    .execute(connection)
    .await
    .map_err(Error::database("add a blob to a repository"))?;
    Ok(())
}
