//! Which manifests of a repository are needed: for all of them by a walk down from the roots, for one by a walk up.
//!
//! Everything that a needed manifest names is needed, except its subject, which need not exist. The kind of the edge
//! does not matter: an index may list content with a wrong type.

use std::collections::BTreeSet;

use hab_oci::RepositoryName;
use sqlx::{query, query_scalar};

use super::engine::Connection;
use crate::{Error, Result};

/// Finds the manifests that nothing needs, by a walk down from tags and from manifests younger than `since`. Runs on a
/// snapshot.
pub(super) async fn dead_manifests(
    connection: &mut Connection,
    repository: &RepositoryName,
    since: i64,
) -> Result<Vec<String>> {
    query_scalar(
        // Both directions of edges go into one table, made once: with a join on either direction SQLite would read all
        // edges for every manifest. The join starts at the manifests, because most edges lead to layers, and layers are
        // many times more.
        "WITH RECURSIVE needed (digest) AS (
             SELECT m.digest FROM manifests m WHERE m.repository = $1 AND
             (m.created > $2 OR m.untagged > $2 OR EXISTS
              (SELECT 1 FROM tags t WHERE t.repository = m.repository AND t.digest = m.digest))
             UNION
             SELECT e.part FROM needed n JOIN (
                 SELECT named.manifest AS holder, named.child AS part FROM manifests part CROSS JOIN edges named
                 WHERE part.repository = $1 AND named.repository = $1 AND named.child = part.digest
                 AND named.kind IN ('config', 'layer', 'manifest')
                 UNION ALL
                 SELECT child, manifest FROM edges WHERE repository = $1 AND kind = 'subject'
             ) e ON e.holder = n.digest)
         SELECT digest FROM manifests WHERE repository = $1 AND digest NOT IN (SELECT digest FROM needed)
         ORDER BY digest",
    )
    .bind(repository.as_str())
    .bind(since)
    .fetch_all(connection)
    .await
    .map_err(Error::database("find manifests that nothing needs"))
}

/// Whether something needs one manifest, by a walk up from it. Fast enough for a transaction.
pub(super) async fn is_needed(
    connection: &mut Connection,
    repository: &RepositoryName,
    manifest: &str,
    since: i64,
) -> Result<bool> {
    let mut seen = BTreeSet::new();
    let mut queue = vec![manifest.to_owned()];
    while let Some(digest) = queue.pop() {
        if is_root(connection, repository, &digest, since).await? {
            return Ok(true);
        }
        let above: Vec<String> = query_scalar(
            "SELECT manifest FROM edges
             WHERE repository = $1 AND child = $2 AND kind IN ('config', 'layer', 'manifest')
             UNION ALL
             SELECT child FROM edges WHERE repository = $1 AND manifest = $2 AND kind = 'subject'",
        )
        .bind(repository.as_str())
        .bind(&digest)
        .fetch_all(&mut *connection)
        .await
        .map_err(Error::database("look for what needs a manifest"))?;
        seen.insert(digest);
        queue.extend(above.into_iter().filter(|digest| !seen.contains(digest)));
    }
    Ok(false)
}

async fn is_root(
    connection: &mut Connection,
    repository: &RepositoryName,
    manifest: &str,
    since: i64,
) -> Result<bool> {
    let found: Option<i64> = query_scalar(
        "SELECT 1 FROM manifests m WHERE m.repository = $1 AND m.digest = $2 AND (m.created > $3 OR m.untagged > $3
         OR EXISTS (SELECT 1 FROM tags t WHERE t.repository = m.repository AND t.digest = m.digest))",
    )
    .bind(repository.as_str())
    .bind(manifest)
    .bind(since)
    .fetch_optional(connection)
    .await
    .map_err(Error::database("look whether a manifest is needed"))?;
    Ok(found.is_some())
}

/// Whether an index lists a manifest, or a manifest names it as a layer or configuration.
pub(super) async fn is_listed(
    connection: &mut Connection,
    repository: &RepositoryName,
    manifest: &str,
) -> Result<bool> {
    let found: Option<i64> = query_scalar(
        "SELECT 1 FROM edges
         WHERE child = $2 AND repository = $1 AND kind IN ('config', 'layer', 'manifest') LIMIT 1",
    )
    .bind(repository.as_str())
    .bind(manifest)
    .fetch_optional(connection)
    .await
    .map_err(Error::database("look for indexes of a manifest"))?;
    Ok(found.is_some())
}

/// Everything that a manifest names except its subject, including blobs.
pub(super) async fn lists(
    connection: &mut Connection,
    repository: &RepositoryName,
    manifest: &str,
) -> Result<Vec<String>> {
    query_scalar(
        "SELECT child FROM edges
         WHERE repository = $1 AND manifest = $2 AND kind IN ('config', 'layer', 'manifest')",
    )
    .bind(repository.as_str())
    .bind(manifest)
    .fetch_all(connection)
    .await
    .map_err(Error::database("read an index"))
}

pub(super) async fn delete(
    connection: &mut Connection,
    repository: &RepositoryName,
    manifest: &str,
) -> Result<()> {
    query("DELETE FROM manifests WHERE repository = $1 AND digest = $2")
        .bind(repository.as_str())
        .bind(manifest)
        .execute(connection)
        .await
        .map_err(Error::database("delete a manifest"))?;
    Ok(())
}
