//! Tags: where they are, and everywhere they ever were.

use hab_oci::{Digest, RepositoryName, Tag};
use sqlx::{query, query_as, query_scalar};

use super::{Catalog, Connection, commit, digest};
use crate::{Error, Result};

/// One move of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagMove {
    /// Where it went, or `None` if it was deleted.
    pub digest: Option<Digest>,
    /// When, in unix seconds.
    pub at: i64,
}

impl Catalog {
    /// At most `limit` tags of a repository in byte order, those behind `after`.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Tag>> {
        // No tag is empty, so every tag is behind the empty text.
        let names: Vec<String> =
            query_scalar("SELECT tag FROM tags WHERE repository = $1 AND tag > $2 ORDER BY tag LIMIT $3")
                .bind(repository.as_str())
                .bind(after.unwrap_or_default())
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await
                .map_err(Error::database("list tags"))?;
        let tag = |name: String| name.parse().map_err(|_| Error::Nonsense { what: "tag", value: name });
        names.into_iter().map(tag).collect()
    }

    /// Every move of a tag, the first one first.
    pub async fn tag_history(&self, repository: &RepositoryName, tag: &Tag) -> Result<Vec<TagMove>> {
        let rows: Vec<(Option<String>, i64)> =
            query_as("SELECT digest, at FROM tag_history WHERE repository = $1 AND tag = $2 ORDER BY seq")
                .bind(repository.as_str())
                .bind(tag.as_str())
                .fetch_all(&self.readers)
                .await
                .map_err(Error::database("read a tag's history"))?;
        rows.into_iter().map(|(to, at)| Ok(TagMove { digest: to.map(digest).transpose()?, at })).collect()
    }

    /// Deletes a tag, not what it points at; `false` if there was none. `at`: unix seconds.
    pub async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag, at: i64) -> Result<bool> {
        let mut tx = self.begin().await?;
        let removed = remove(&mut tx, repository, tag.as_str(), at).await?;
        commit(tx).await?;
        Ok(removed)
    }
}

pub(super) async fn point(
    connection: &mut Connection,
    repository: &RepositoryName,
    tag: &Tag,
    to: &Digest,
    at: i64,
) -> Result<()> {
    let was: Option<String> = query_scalar("SELECT digest FROM tags WHERE repository = $1 AND tag = $2")
        .bind(repository.as_str())
        .bind(tag.as_str())
        .fetch_optional(&mut *connection)
        .await
        .map_err(Error::database("find a tag"))?;
    let to = to.to_string();
    if was.as_ref() == Some(&to) {
        return Ok(());
    }
    query(
        "INSERT INTO tags (repository, tag, digest, moved) VALUES ($1, $2, $3, $4)
         ON CONFLICT (repository, tag) DO UPDATE SET digest = excluded.digest, moved = excluded.moved",
    )
    .bind(repository.as_str())
    .bind(tag.as_str())
    .bind(&to)
    .bind(at)
    .execute(&mut *connection)
    .await
    .map_err(Error::database("move a tag"))?;
    remember(connection, repository, tag.as_str(), Some(&to), at).await
}

pub(super) async fn remove(
    connection: &mut Connection,
    repository: &RepositoryName,
    tag: &str,
    at: i64,
) -> Result<bool> {
    let removed = query("DELETE FROM tags WHERE repository = $1 AND tag = $2")
        .bind(repository.as_str())
        .bind(tag)
        .execute(&mut *connection)
        .await
        .map_err(Error::database("delete a tag"))?
        .rows_affected();
    if removed > 0 {
        remember(connection, repository, tag, None, at).await?;
    }
    Ok(removed > 0)
}

async fn remember(
    connection: &mut Connection,
    repository: &RepositoryName,
    tag: &str,
    to: Option<&str>,
    at: i64,
) -> Result<()> {
    query(
        "INSERT INTO tag_history (repository, tag, seq, digest, at)
         SELECT $1, $2, COALESCE(MAX(seq), 0) + 1, $3, $4 FROM tag_history WHERE repository = $1 AND tag = $2",
    )
    .bind(repository.as_str())
    .bind(tag)
    .bind(to)
    .bind(at)
    .execute(connection)
    .await
    .map_err(Error::database("record a tag's move"))?;
    Ok(())
}
