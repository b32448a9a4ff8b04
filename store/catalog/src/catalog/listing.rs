//! Lists the content of the registry for people.

use hab_oci::{Digest, RepositoryName, Tag};
use sqlx::{query_as, query_scalar};

use super::engine::Connection;
use super::{Catalog, digest, size, tags};
use crate::{Error, Result};

/// A repository with the amount of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryRow {
    /// Its name.
    pub name: RepositoryName,
    /// The number of tags.
    pub tags: u64,
    /// The number of manifests, with and without tags.
    pub manifests: u64,
    /// The bytes of its layers and configurations. A blob that repositories share counts in each.
    pub bytes: u64,
}

/// A tag and the manifest that it points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRow {
    /// The tag.
    pub tag: Tag,
    /// The manifest's digest.
    pub digest: Digest,
    /// When it last moved, in unix seconds.
    pub moved: i64,
    /// When its manifest was last pulled, to the hour, in unix seconds.
    pub pulled: Option<i64>,
}

/// Totals of the whole catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Totals {
    /// Repositories.
    pub repositories: u64,
    /// Tags of all of them.
    pub tags: u64,
    /// Manifests, once for each repository that holds them.
    pub manifests: u64,
    /// Blobs, once each.
    pub blobs: u64,
    /// The bytes of these blobs.
    pub bytes: u64,
}

impl Catalog {
    /// Counts everything. Reads every row, so do not call it for each request.
    pub async fn totals(&self) -> Result<Totals> {
        let (repositories, tags, manifests, blobs, bytes): (i64, i64, i64, i64, i64) = query_as(
            "SELECT (SELECT COUNT(*) FROM repositories), (SELECT COUNT(*) FROM tags), (SELECT COUNT(*) FROM manifests),
                    (SELECT COUNT(*) FROM blobs), (SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blobs)",
        )
        .fetch_one(&self.readers)
        .await
        .map_err(Error::database("be counted"))?;
        Ok(Totals {
            repositories: size(repositories),
            tags: size(tags),
            manifests: size(manifests),
            blobs: size(blobs),
            bytes: size(bytes),
        })
    }

    /// Every repository, by name.
    pub async fn repositories(&self) -> Result<Vec<RepositoryRow>> {
        let rows: Vec<(String, i64, i64, i64)> = query_as(
            "SELECT r.name,
                    (SELECT COUNT(*) FROM tags t WHERE t.repository = r.name),
                    (SELECT COUNT(*) FROM manifests m WHERE m.repository = r.name),
                    (SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM repository_blobs held
                     JOIN blobs b ON b.digest = held.digest WHERE held.repository = r.name)
             FROM repositories r ORDER BY r.name",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(Error::database("list repositories"))?;
        let row = |(name, tags, manifests, bytes): (String, i64, i64, i64)| {
            Ok(RepositoryRow {
                name: repository(name)?,
                tags: size(tags),
                manifests: size(manifests),
                bytes: size(bytes),
            })
        };
        rows.into_iter().map(row).collect()
    }

    /// At most `limit` names of repositories that have a manifest and follow `after` in byte order.
    pub async fn repository_page(&self, after: &str, limit: u32) -> Result<Vec<RepositoryName>> {
        let names: Vec<String> = query_scalar(
            "SELECT r.name FROM repositories r WHERE r.name > $1
             AND EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.name) ORDER BY r.name LIMIT $2",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(Error::database("list repositories"))?;
        names.into_iter().map(repository).collect()
    }

    /// The name of every repository.
    pub(crate) async fn repository_names(&self) -> Result<Vec<RepositoryName>> {
        let names: Vec<String> = query_scalar("SELECT name FROM repositories ORDER BY name")
            .fetch_all(&self.readers)
            .await
            .map_err(Error::database("list repositories"))?;
        names.into_iter().map(repository).collect()
    }

    /// Every tag of a repository with its manifest, in byte order.
    pub async fn tag_rows(&self, repository: &RepositoryName) -> Result<Vec<TagRow>> {
        let mut connection = self.readers.acquire().await.map_err(Error::database("be read"))?;
        tag_rows(&mut connection, repository).await
    }
}

fn repository(name: String) -> Result<RepositoryName> {
    name.parse().map_err(|_| Error::Nonsense { what: "repository", value: name })
}

pub(super) async fn tag_rows(
    connection: &mut Connection,
    repository: &RepositoryName,
) -> Result<Vec<TagRow>> {
    let rows: Vec<(String, String, i64, Option<i64>)> = query_as(
        "SELECT t.tag, t.digest, t.moved, m.pulled FROM tags t
             JOIN manifests m ON m.repository = t.repository AND m.digest = t.digest
             WHERE t.repository = $1 ORDER BY t.tag",
    )
    .bind(repository.as_str())
    .fetch_all(connection)
    .await
    .map_err(Error::database("list tags"))?;
    let row =
        |(name, at, moved, pulled)| Ok(TagRow { tag: tags::tag(name)?, digest: digest(at)?, moved, pulled });
    rows.into_iter().map(row).collect()
}
