//! Manifests and their edges: what they point at, and what points at them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hab_oci::{Digest, EdgeKind, Outline, RepositoryName, Tag, TagOrDigest};
use sqlx::{QueryBuilder, query, query_as, query_scalar};

use super::engine::{Connection, Engine};
use super::{Catalog, ROWS, digest, repositories, size, stored, tags};
use crate::journal::Change;
use crate::{Error, Expected, Gaps, Result};

/// How many referrers one query reads.
const FEW: i64 = 16;
/// The approximate bytes of a referrer in a list, without its annotations.
const WEIGHT: usize = 256;

/// Publications with more edges than this take turns, so that any other writer waits for at most one of them.
const MANY: usize = 1000;

/// Of the pulls within this many seconds, one is recorded.
const COARSE: i64 = 60 * 60;

/// A manifest of a repository; its bytes are in the blob store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRecord {
    /// Its digest.
    pub digest: Digest,
    /// The media type with which it was pushed.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A manifest that names another one as its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// The manifest.
    pub manifest: ManifestRecord,
    /// Its artifact type.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A manifest that was parsed and is about to be recorded.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) outline: Outline,
}

/// The facts of one publication, which one transaction records.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) repository: &'a RepositoryName,
    /// The condition of the request: what a tag has to point at, or whether a manifest has to exist.
    pub(crate) condition: Option<(&'a TagOrDigest, &'a Expected)>,
    /// Blobs that are in the blob store: digest, size, media type.
    pub(crate) blobs: Vec<(Digest, u64, String)>,
    pub(crate) manifests: Vec<Reading>,
    /// The tags to move, each with the manifest that it will point at.
    pub(crate) tags: &'a [(Tag, Digest)],
    pub(crate) gaps: Gaps,
    pub(crate) at: i64,
}

impl Catalog {
    /// Finds a manifest by tag or digest.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &TagOrDigest,
    ) -> Result<Option<ManifestRecord>> {
        let (sql, key) = match reference {
            TagOrDigest::Digest(digest) => (
                "SELECT m.digest, m.media_type, m.size FROM manifests m
                 JOIN blobs b ON b.digest = m.digest AND b.damaged IS NULL
                 WHERE m.repository = $1 AND m.digest = $2",
                digest.to_string(),
            ),
            TagOrDigest::Tag(tag) => (
                "SELECT m.digest, m.media_type, m.size FROM tags t
                 JOIN manifests m ON m.repository = t.repository AND m.digest = t.digest
                 JOIN blobs b ON b.digest = m.digest AND b.damaged IS NULL
                 WHERE t.repository = $1 AND t.tag = $2",
                tag.to_string(),
            ),
        };
        let row: Option<(String, String, i64)> = query_as(sql)
            .bind(repository.as_str())
            .bind(key)
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::database("find a manifest"))?;
        row.map(record).transpose()
    }

    /// The manifests of a repository whose subject is `subject`, sorted by digest.
    pub async fn referrers(&self, repository: &RepositoryName, subject: &Digest) -> Result<Vec<Referrer>> {
        let rows: Vec<(String, String, i64, Option<String>, String)> = query_as(
            "SELECT digest, media_type, size, artifact_type, annotations FROM manifests
             WHERE repository = $1 AND subject = $2 ORDER BY digest",
        )
        .bind(repository.as_str())
        .bind(subject.to_string())
        .fetch_all(&self.readers)
        .await
        .map_err(Error::database("list referrers"))?;
        rows.into_iter().map(referrer).collect()
    }

    /// One page of [`Catalog::referrers`], and whether there are more. It begins after the digest `after`, has only one
    /// artifact type if one is given, and ends at about `bytes` bytes, but holds at least one referrer.
    pub async fn referrers_page(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Digest>,
        bytes: usize,
    ) -> Result<(Vec<Referrer>, bool)> {
        let mut last = after.map_or_else(String::new, ToString::to_string);
        let mut page: Vec<Referrer> = Vec::new();
        let mut room = bytes;
        loop {
            // Read few at a time, because each may have megabytes of annotations.
            let rows: Vec<(String, String, i64, Option<String>, String)> = query_as(
                "SELECT digest, media_type, size, artifact_type, annotations FROM manifests
                 WHERE repository = $1 AND subject = $2 AND digest > $3 AND ($4 IS NULL OR artifact_type = $4)
                 ORDER BY digest LIMIT $5",
            )
            .bind(repository.as_str())
            .bind(subject.to_string())
            .bind(&last)
            .bind(artifact_type)
            .bind(FEW)
            .fetch_all(&self.readers)
            .await
            .map_err(Error::database("list referrers"))?;
            let end = rows.len() < usize::try_from(FEW).unwrap_or(usize::MAX);
            for row in rows {
                let weight = WEIGHT + row.3.as_ref().map_or(0, String::len) + row.4.len();
                if weight > room && !page.is_empty() {
                    return Ok((page, true));
                }
                room = room.saturating_sub(weight);
                last.clone_from(&row.0);
                page.push(referrer(row)?);
            }
            if end {
                return Ok((page, false));
            }
        }
    }

    /// Whether the repository lacks a layer or the configuration of a manifest.
    pub async fn lacks_blobs(&self, repository: &RepositoryName, manifest: &Digest) -> Result<bool> {
        let lacking: Option<i64> = query_scalar(
            "SELECT 1 FROM edges e WHERE e.repository = $1 AND e.manifest = $2 AND e.kind IN ('config', 'layer')
             AND NOT EXISTS (SELECT 1 FROM repository_blobs b WHERE b.repository = e.repository AND b.digest = e.child)
             LIMIT 1",
        )
        .bind(repository.as_str())
        .bind(manifest.to_string())
        .fetch_optional(&self.readers)
        .await
        .map_err(Error::database("look for missing blobs"))?;
        Ok(lacking.is_some())
    }

    /// Deletes a manifest and the tags that point at it; `false` if there was no such manifest. `at` is in unix
    /// seconds.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &Digest,
        at: i64,
    ) -> Result<bool> {
        let mut tx = self.begin().await?;
        let tags: Vec<String> = query_scalar("SELECT tag FROM tags WHERE repository = $1 AND digest = $2")
            .bind(repository.as_str())
            .bind(manifest.to_string())
            .fetch_all(&mut *tx)
            .await
            .map_err(Error::database("find a manifest's tags"))?;
        let mut changes = Vec::new();
        for tag in tags {
            let tag = tags::tag(tag)?;
            tags::remove(&mut tx, &self.immutable, repository, &tag, at).await?;
            changes.push(tags::moves(repository, &tag, None));
        }
        let removed = query("DELETE FROM manifests WHERE repository = $1 AND digest = $2")
            .bind(repository.as_str())
            .bind(manifest.to_string())
            .execute(&mut *tx)
            .await
            .map_err(Error::database("delete a manifest"))?
            .rows_affected();
        if removed > 0 {
            changes.push(no_manifest(repository, manifest));
        }
        self.commit_changes(tx, at, changes).await?;
        Ok(removed > 0)
    }

    /// Records pulls, at most one an hour for each manifest.
    pub(crate) async fn record_pulls(&self, seen: &HashMap<(RepositoryName, Digest), i64>) -> Result<()> {
        let mut tx = self.begin().await?;
        for ((repository, manifest), at) in seen {
            query(
                "UPDATE manifests SET pulled = $3
                 WHERE repository = $1 AND digest = $2 AND (pulled IS NULL OR pulled <= $3 - $4)",
            )
            .bind(repository.as_str())
            .bind(manifest.to_string())
            .bind(at)
            .bind(COARSE)
            .execute(&mut *tx)
            .await
            .map_err(Error::database("record a pull"))?;
        }
        self.commit(tx).await
    }

    /// Records all facts of a publication in one transaction.
    pub(crate) async fn publish(&self, facts: &Facts<'_>) -> Result<()> {
        let edges: usize = facts.manifests.iter().map(|manifest| manifest.outline.edges.len()).sum();
        let _alone = if edges > MANY { Some(self.large.lock().await) } else { None };
        let mut tx = self.begin().await?;
        let (repository, at) = (facts.repository, facts.at);
        if let Some((reference, expected)) = facts.condition {
            tags::look(&mut tx, repository, reference, expected).await?;
        }
        repositories::ensure_repository(&mut tx, repository, at).await?;
        for (digest, size, media_type) in &facts.blobs {
            repositories::ensure_blob(&mut tx, digest, *size, Some(media_type), at).await?;
            repositories::join(&mut tx, repository, digest, at).await?;
        }
        for manifest in &facts.manifests {
            insert(&mut tx, repository, manifest, at).await?;
        }
        // Insert edges after all manifests, so that the order of the manifests does not matter.
        for manifest in &facts.manifests {
            insert_edges(&mut tx, repository, manifest, facts.gaps).await?;
        }
        for (tag, to) in facts.tags {
            tags::point(&mut tx, &self.immutable, repository, tag, to, at).await?;
        }
        self.commit_changes(tx, at, facts.changes()).await
    }
}

impl Facts<'_> {
    fn changes(&self) -> Vec<Change> {
        let blobs =
            self.blobs.iter().map(|(digest, size, _)| repositories::holds(self.repository, digest, *size));
        let manifests = self.manifests.iter().map(|manifest| Change::Manifest {
            repository: self.repository.to_string(),
            digest: manifest.digest.clone(),
            media_type: manifest.outline.media_type.to_owned(),
        });
        let tags = self.tags.iter().map(|(tag, to)| tags::moves(self.repository, tag, Some(to)));
        blobs.chain(manifests).chain(tags).collect()
    }
}

pub(super) fn no_manifest(repository: &RepositoryName, digest: &Digest) -> Change {
    Change::NoManifest { repository: repository.to_string(), digest: digest.clone() }
}

fn record((text, media_type, bytes): (String, String, i64)) -> Result<ManifestRecord> {
    Ok(ManifestRecord { digest: digest(text)?, media_type, size: size(bytes) })
}

fn referrer(
    (text, media_type, bytes, artifact_type, annotations): (String, String, i64, Option<String>, String),
) -> Result<Referrer> {
    let Ok(notes) = serde_json::from_str(&annotations) else {
        return Err(Error::Nonsense { what: "map of annotations", value: annotations });
    };
    Ok(Referrer { manifest: record((text, media_type, bytes))?, artifact_type, annotations: notes })
}

pub(super) async fn insert(
    tx: &mut Connection,
    repository: &RepositoryName,
    manifest: &Reading,
    at: i64,
) -> Result<()> {
    let outline = &manifest.outline;
    repositories::ensure_blob(tx, &manifest.digest, manifest.size, Some(outline.media_type), at).await?;
    // The annotations are a map of texts, so serialising them cannot fail.
    let annotations = serde_json::to_string(&outline.annotations).unwrap_or_default();
    query(
        "INSERT INTO manifests (repository, digest, media_type, size, subject, artifact_type, config_media_type,
         annotations, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (repository, digest) DO UPDATE
         SET media_type = excluded.media_type, created = excluded.created",
    )
    .bind(repository.as_str())
    .bind(manifest.digest.to_string())
    .bind(outline.media_type)
    .bind(stored(manifest.size))
    .bind(outline.subject.as_ref().map(ToString::to_string))
    .bind(&outline.artifact_type)
    .bind(&outline.config_media_type)
    .bind(annotations)
    .bind(at)
    .execute(tx)
    .await
    .map_err(Error::database("add a manifest"))?;
    Ok(())
}

pub(super) async fn insert_edges(
    tx: &mut Connection,
    repository: &RepositoryName,
    manifest: &Reading,
    gaps: Gaps,
) -> Result<()> {
    let edges = &manifest.outline.edges;
    let of = |wanted: &[EdgeKind]| -> BTreeSet<&Digest> {
        let wanted = edges.iter().filter(|edge| edge.listed || wanted.contains(&edge.kind));
        wanted.map(|edge| &edge.digest).collect()
    };
    let blobs = repositories::members(tx, repository, &of(&[EdgeKind::Config, EdgeKind::Layer])).await?;
    let manifests = manifest_sizes(tx, repository, &of(&[EdgeKind::Manifest])).await?;
    let mut seen = BTreeSet::new();
    for edge in edges {
        let found = match edge.kind {
            // An entry of an index may be here as a manifest or as a blob: the index may not know its type.
            _ if edge.listed => manifests.get(&edge.digest).or_else(|| blobs.get(&edge.digest)).copied(),
            EdgeKind::Config | EdgeKind::Layer => blobs.get(&edge.digest).copied(),
            EdgeKind::Manifest => manifests.get(&edge.digest).copied(),
            // A subject need not exist: distribution specification, "Pushing Manifests with Subject".
            EdgeKind::Subject => Some(edge.size),
        };
        let least = if edge.listed { Gaps::Indexes } else { Gaps::All };
        match found {
            Some(found) if found != edge.size => {
                return Err(Error::WrongSize { digest: edge.digest.clone(), expected: edge.size, found });
            }
            None if !edge.elsewhere && gaps < least => {
                return Err(Error::Missing {
                    repository: repository.clone(),
                    digest: edge.digest.clone(),
                    kind: edge.kind,
                    wanted_by: manifest.digest.clone(),
                });
            }
            _ => {}
        }
        seen.insert((edge.kind, &edge.digest));
    }
    // Insert in the order of the key, so that the database goes through its index once.
    let (seen, named): (Vec<_>, _) = (seen.into_iter().collect(), manifest.digest.to_string());
    for rows in seen.chunks(ROWS) {
        let mut insert =
            QueryBuilder::<Engine>::new("INSERT INTO edges (repository, manifest, kind, child) ");
        insert.push_values(rows, |mut row, (kind, child)| {
            row.push_bind(repository.as_str()).push_bind(&named);
            row.push_bind(kind.name()).push_bind(child.to_string());
        });
        insert.push(" ON CONFLICT (repository, manifest, kind, child) DO NOTHING");
        insert.build().execute(&mut *tx).await.map_err(Error::database("add edges"))?;
    }
    Ok(())
}

/// The digests and sizes of the given manifests that the repository has.
async fn manifest_sizes(
    tx: &mut Connection,
    repository: &RepositoryName,
    digests: &BTreeSet<&Digest>,
) -> Result<HashMap<Digest, u64>> {
    let sql =
        "SELECT m.digest, m.size FROM manifests m JOIN blobs b ON b.digest = m.digest AND b.damaged IS NULL
         WHERE m.repository = ";
    super::sizes(tx, (sql, " AND m.digest IN ("), repository, digests, "find manifests").await
}

pub(super) async fn manifest_size(
    tx: &mut Connection,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<u64>> {
    let found: Option<i64> = query_scalar(
        "SELECT m.size FROM manifests m JOIN blobs b ON b.digest = m.digest AND b.damaged IS NULL
         WHERE m.repository = $1 AND m.digest = $2",
    )
    .bind(repository.as_str())
    .bind(digest.to_string())
    .fetch_optional(tx)
    .await
    .map_err(Error::database("find a manifest"))?;
    Ok(found.map(size))
}
