//! Records which repository each upload belongs to.

use hab_oci::{Digest, RepositoryName};
use sqlx::{query, query_scalar};

use super::engine::Connection;
use super::{Catalog, repositories};
use crate::{Error, Result, UploadId};

impl Catalog {
    /// Records an upload; `at` is in unix seconds. A power failure may lose the row, as it may lose the bytes; the
    /// client then begins again.
    pub async fn add_upload(&self, id: &UploadId, repository: &RepositoryName, at: i64) -> Result<()> {
        let add = query("INSERT INTO uploads (id, repository, started) VALUES ($1, $2, $3)")
            .bind(id.as_str())
            .bind(repository.as_str())
            .bind(at);
        self.execute_unsynced(add, "add an upload").await
    }

    /// Whether this upload belongs to this repository.
    pub async fn has_upload(&self, id: &UploadId, repository: &RepositoryName) -> Result<bool> {
        let found: Option<i64> = query_scalar("SELECT 1 FROM uploads WHERE id = $1 AND repository = $2")
            .bind(id.as_str())
            .bind(repository.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::database("find an upload"))?;
        Ok(found.is_some())
    }

    /// Removes the record of an upload.
    pub async fn end_upload(&self, id: &UploadId) -> Result<()> {
        let mut tx = self.begin().await?;
        end(&mut tx, id).await?;
        self.commit(tx).await
    }

    /// [`Catalog::link_blob`] and [`Catalog::end_upload`] in one transaction.
    pub async fn finish_upload(
        &self,
        id: &UploadId,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        at: i64,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        repositories::link(&mut tx, repository, digest, size, at).await?;
        end(&mut tx, id).await?;
        self.commit_changes(tx, at, vec![repositories::holds(repository, digest, size)]).await
    }

    /// Uploads that were started before a time, in unix seconds.
    pub async fn uploads_before(&self, before: i64) -> Result<Vec<UploadId>> {
        let names: Vec<String> = query_scalar("SELECT id FROM uploads WHERE started < $1 ORDER BY started")
            .bind(before)
            .fetch_all(&self.readers)
            .await
            .map_err(Error::database("list uploads"))?;
        let id = |name: String| name.parse().map_err(|_| Error::Nonsense { what: "upload", value: name });
        names.into_iter().map(id).collect()
    }
}

async fn end(connection: &mut Connection, id: &UploadId) -> Result<()> {
    query("DELETE FROM uploads WHERE id = $1")
        .bind(id.as_str())
        .execute(connection)
        .await
        .map_err(Error::database("forget an upload"))?;
    Ok(())
}
