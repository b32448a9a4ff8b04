//! Tags: what each one points at, and the history of its moves.

use std::fmt;
use std::str::FromStr;

use hab_oci::{Digest, RepositoryName, Tag, TagOrDigest};
use sqlx::{query, query_as, query_scalar};

use super::engine::Connection;
use super::{Catalog, digest, manifests};
use crate::journal::Change;
use crate::{Error, Expected, Result, Tags};

/// One move of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagMove {
    /// The manifest that it moved to, or `None` if it was deleted.
    pub digest: Option<Digest>,
    /// The time of the move, in unix seconds.
    pub at: i64,
}

impl Catalog {
    /// At most `limit` tags of a repository that follow `after` in byte order.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Tag>> {
        // No tag is empty, so every tag follows the empty text.
        let names: Vec<String> =
            query_scalar("SELECT tag FROM tags WHERE repository = $1 AND tag > $2 ORDER BY tag LIMIT $3")
                .bind(repository.as_str())
                .bind(after.unwrap_or_default())
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await
                .map_err(Error::database("list tags"))?;
        names.into_iter().map(tag).collect()
    }

    /// Every move of a tag, the oldest first.
    pub async fn tag_history(&self, repository: &RepositoryName, tag: &Tag) -> Result<Vec<TagMove>> {
        let mut connection = self.readers.acquire().await.map_err(Error::database("be read"))?;
        history(&mut connection, repository, tag).await
    }

    /// Deletes a tag, but not its manifest; `false` if there was no such tag. `at` is in unix seconds.
    pub async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag, at: i64) -> Result<bool> {
        self.delete_tag_if(repository, tag, &Expected::default(), at).await
    }

    /// As [`Catalog::delete_tag`], on the condition that the tag points at the expected manifest
    /// ([`Error::Unexpected`]). Still `false` if there is no such tag.
    pub async fn delete_tag_if(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        expected: &Expected,
        at: i64,
    ) -> Result<bool> {
        let mut tx = self.begin().await?;
        if !expected.is_empty() && place(&mut tx, repository, tag).await?.is_some() {
            look(&mut tx, repository, &TagOrDigest::Tag(tag.clone()), expected).await?;
        }
        let removed = remove(&mut tx, &self.immutable, repository, tag, at).await?;
        let changes = if removed { vec![moves(repository, tag, None)] } else { Vec::new() };
        self.commit_changes(tx, at, changes).await?;
        Ok(removed)
    }

    /// Moves a tag, even a deleted one, back to a manifest that it once pointed at, and returns that manifest. The
    /// rollback is a move like any other: it is recorded, and can itself be rolled back.
    ///
    /// [`Error::NeverThere`] if the tag never pointed there, [`Error::NotHeld`] if the repository no longer holds the
    /// manifest, [`Error::Immutable`] if the tag may not move.
    pub async fn rollback_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        back: &Back,
        at: i64,
    ) -> Result<Digest> {
        let mut tx = self.begin().await?;
        let past = history(&mut tx, repository, tag).await?;
        let to = back.find(&past).ok_or_else(|| Error::NeverThere {
            repository: repository.clone(),
            tag: tag.clone(),
            wanted: back.to_string(),
        })?;
        if manifests::manifest_size(&mut tx, repository, &to).await?.is_none() {
            return Err(Error::NotHeld { repository: repository.clone(), tag: tag.clone(), digest: to });
        }
        point(&mut tx, &self.immutable, repository, tag, &to, at).await?;
        self.commit_changes(tx, at, vec![moves(repository, tag, Some(&to))]).await?;
        Ok(to)
    }
}

/// How far a rollback goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Back {
    /// By so many values: 1 is the value before the present one, or before the deletion. Never 0.
    Steps(u32),
    /// To this manifest.
    To(Digest),
}

impl fmt::Display for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(1) => f.write_str("anything earlier"),
            Self::Steps(steps) => write!(f, "anything {steps} steps back"),
            Self::To(digest) => write!(f, "{digest}"),
        }
    }
}

impl FromStr for Back {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is neither a digest nor a number of steps, 1 or more");
        if text.contains(':') {
            return text.parse().map(Self::To).map_err(|_| bad());
        }
        text.parse().ok().filter(|steps| *steps > 0).map(Self::Steps).ok_or_else(bad)
    }
}

impl Back {
    fn find(&self, moves: &[TagMove]) -> Option<Digest> {
        let mut values: Vec<&Digest> = moves.iter().filter_map(|each| each.digest.as_ref()).collect();
        match self {
            Self::To(wanted) => values.into_iter().find(|value| *value == wanted).cloned(),
            Self::Steps(steps) => {
                // A tag that was deleted and pushed again unchanged has one value.
                values.dedup();
                if moves.last().is_some_and(|last| last.digest.is_some()) {
                    values.pop();
                }
                let index = values.len().checked_sub(*steps as usize)?;
                values.get(index).copied().cloned()
            }
        }
    }
}

pub(super) fn moves(repository: &RepositoryName, tag: &Tag, digest: Option<&Digest>) -> Change {
    Change::Tag { repository: repository.to_string(), tag: tag.to_string(), digest: digest.cloned() }
}

pub(super) fn tag(name: String) -> Result<Tag> {
    name.parse().map_err(|_| Error::Nonsense { what: "tag", value: name })
}

async fn history(
    connection: &mut Connection,
    repository: &RepositoryName,
    tag: &Tag,
) -> Result<Vec<TagMove>> {
    let rows: Vec<(Option<String>, i64)> =
        query_as("SELECT digest, at FROM tag_history WHERE repository = $1 AND tag = $2 ORDER BY seq")
            .bind(repository.as_str())
            .bind(tag.as_str())
            .fetch_all(connection)
            .await
            .map_err(Error::database("read a tag's history"))?;
    rows.into_iter().map(|(to, at)| Ok(TagMove { digest: to.map(digest).transpose()?, at })).collect()
}

/// The manifest that a tag points at. Within a transaction it cannot change before the tag moves.
async fn place(
    connection: &mut Connection,
    repository: &RepositoryName,
    tag: &Tag,
) -> Result<Option<Digest>> {
    let found: Option<String> = query_scalar("SELECT digest FROM tags WHERE repository = $1 AND tag = $2")
        .bind(repository.as_str())
        .bind(tag.as_str())
        .fetch_optional(connection)
        .await
        .map_err(Error::database("find a tag"))?;
    found.map(digest).transpose()
}

/// Fails with [`Error::Unexpected`] if a tag's manifest, or the presence of a manifest, does not meet the condition.
pub(super) async fn look(
    tx: &mut Connection,
    repository: &RepositoryName,
    reference: &TagOrDigest,
    expected: &Expected,
) -> Result<()> {
    let found = match reference {
        TagOrDigest::Tag(tag) => place(tx, repository, tag).await?,
        TagOrDigest::Digest(digest) => {
            manifests::manifest_size(tx, repository, digest).await?.map(|_| digest.clone())
        }
    };
    if expected.holds(found.as_ref()) {
        return Ok(());
    }
    let reference = match reference {
        TagOrDigest::Tag(tag) => tag.to_string(),
        TagOrDigest::Digest(digest) => digest.to_string(),
    };
    Err(Error::Unexpected { repository: repository.clone(), reference, found })
}

/// When a tag last moved.
pub(super) async fn moved(
    connection: &mut Connection,
    repository: &RepositoryName,
    tag: &Tag,
) -> Result<Option<i64>> {
    query_scalar("SELECT moved FROM tags WHERE repository = $1 AND tag = $2")
        .bind(repository.as_str())
        .bind(tag.as_str())
        .fetch_optional(connection)
        .await
        .map_err(Error::database("find a tag"))
}

/// Records that a tag leaves a manifest; fails if the tag is immutable. The manifest's grace begins now, so that a
/// rollback can find it.
async fn leave(
    connection: &mut Connection,
    immutable: &[Tags],
    repository: &RepositoryName,
    tag: &Tag,
    was: &Digest,
    at: i64,
) -> Result<()> {
    if Tags::any(immutable, repository, tag) {
        return Err(Error::Immutable { repository: repository.clone(), tag: tag.clone(), at: was.clone() });
    }
    query("UPDATE manifests SET untagged = $3 WHERE repository = $1 AND digest = $2")
        .bind(repository.as_str())
        .bind(was.to_string())
        .bind(at)
        .execute(connection)
        .await
        .map_err(Error::database("note that a tag moved"))?;
    Ok(())
}

pub(super) async fn point(
    connection: &mut Connection,
    immutable: &[Tags],
    repository: &RepositoryName,
    tag: &Tag,
    to: &Digest,
    at: i64,
) -> Result<()> {
    let was = place(connection, repository, tag).await?;
    if was.as_ref() == Some(to) {
        return Ok(());
    }
    if let Some(was) = &was {
        leave(connection, immutable, repository, tag, was, at).await?;
    }
    query(
        "INSERT INTO tags (repository, tag, digest, moved) VALUES ($1, $2, $3, $4)
         ON CONFLICT (repository, tag) DO UPDATE SET digest = excluded.digest, moved = excluded.moved",
    )
    .bind(repository.as_str())
    .bind(tag.as_str())
    .bind(to.to_string())
    .bind(at)
    .execute(&mut *connection)
    .await
    .map_err(Error::database("move a tag"))?;
    remember(connection, repository, tag, Some(to), at).await
}

pub(super) async fn remove(
    connection: &mut Connection,
    immutable: &[Tags],
    repository: &RepositoryName,
    tag: &Tag,
    at: i64,
) -> Result<bool> {
    let Some(was) = place(connection, repository, tag).await? else { return Ok(false) };
    leave(connection, immutable, repository, tag, &was, at).await?;
    query("DELETE FROM tags WHERE repository = $1 AND tag = $2")
        .bind(repository.as_str())
        .bind(tag.as_str())
        .execute(&mut *connection)
        .await
        .map_err(Error::database("delete a tag"))?;
    remember(connection, repository, tag, None, at).await?;
    Ok(true)
}

async fn remember(
    connection: &mut Connection,
    repository: &RepositoryName,
    tag: &Tag,
    to: Option<&Digest>,
    at: i64,
) -> Result<()> {
    query(
        "INSERT INTO tag_history (repository, tag, seq, digest, at)
         SELECT $1, $2, COALESCE(MAX(seq), 0) + 1, $3, $4 FROM tag_history WHERE repository = $1 AND tag = $2",
    )
    .bind(repository.as_str())
    .bind(tag.as_str())
    .bind(to.map(ToString::to_string))
    .bind(at)
    .execute(connection)
    .await
    .map_err(Error::database("record a tag's move"))?;
    Ok(())
}
