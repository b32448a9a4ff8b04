//! Finds what names a manifest or a blob.

use hab_oci::{Digest, RepositoryName, media_type};
use sqlx::query_scalar;

use super::{Catalog, digest};
use crate::{Error, Result};

impl Catalog {
    /// At most `limit` indexes of a repository that list a manifest, sorted by digest.
    pub async fn listed_by(
        &self,
        repository: &RepositoryName,
        manifest: &Digest,
        limit: u32,
    ) -> Result<Vec<Digest>> {
        let rows: Vec<String> = query_scalar(
            "SELECT manifest FROM edges WHERE repository = $1 AND child = $2 AND kind = 'manifest'
             ORDER BY manifest LIMIT $3",
        )
        .bind(repository.as_str())
        .bind(manifest.to_string())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(Error::database("find indexes of a manifest"))?;
        rows.into_iter().map(digest).collect()
    }

    /// At most `limit` manifests of a repository that name a blob as a layer or configuration, or list it, sorted by
    /// digest.
    pub async fn named_by(
        &self,
        repository: &RepositoryName,
        blob: &Digest,
        limit: u32,
    ) -> Result<Vec<Digest>> {
        let rows: Vec<String> = query_scalar(
            "SELECT DISTINCT manifest FROM edges
             WHERE repository = $1 AND child = $2 AND kind IN ('config', 'layer', 'manifest')
             ORDER BY manifest LIMIT $3",
        )
        .bind(repository.as_str())
        .bind(blob.to_string())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(Error::database("find users of a blob"))?;
        rows.into_iter().map(digest).collect()
    }

    /// A manifest of a repository that names a blob as the configuration of an image, which runtimes read.
    pub async fn configures(&self, repository: &RepositoryName, blob: &Digest) -> Result<Option<Digest>> {
        let found: Option<String> = query_scalar(
            "SELECT m.digest FROM edges e JOIN manifests m ON m.repository = e.repository AND m.digest = e.manifest
             WHERE e.repository = $1 AND e.child = $2 AND e.kind = 'config' AND m.config_media_type IN ($3, $4)
             ORDER BY m.digest LIMIT 1",
        )
        .bind(repository.as_str())
        .bind(blob.to_string())
        .bind(media_type::IMAGE_CONFIG)
        .bind(media_type::DOCKER_CONFIG)
        .fetch_optional(&self.readers)
        .await
        .map_err(Error::database("find users of a blob"))?;
        found.map(digest).transpose()
    }

    /// At most `limit` repositories that hold a digest, as a manifest (`true`) or as a blob, sorted by name.
    pub async fn keepers(&self, digest: &Digest, limit: u32) -> Result<Vec<(RepositoryName, bool)>> {
        let rows: Vec<(String, bool)> = sqlx::query_as(
            "SELECT repository, TRUE FROM manifests WHERE digest = $1
             UNION ALL
             SELECT repository, FALSE FROM repository_blobs WHERE digest = $1 ORDER BY 1 LIMIT $2",
        )
        .bind(digest.to_string())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(Error::database("find holders of a blob"))?;
        let parse =
            |name: String| name.parse().map_err(|_| Error::Nonsense { what: "repository", value: name });
        rows.into_iter().map(|(name, is_manifest)| Ok((parse(name)?, is_manifest))).collect()
    }
}
