//! The build cache, and which bytes each mirrored name stood for at which time.

use hab_oci::Digest;
use sqlx::{query, query_as, query_scalar};

use super::engine::Connection;
use super::{Catalog, digest, size, stored};
use crate::journal::Change;
use crate::{Error, Result};

/// The bytes that a name stood for at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// The digest of the bytes.
    pub digest: Digest,
    /// Their size.
    pub size: u64,
    /// When they were first seen under this name, in unix seconds.
    pub first_seen: i64,
}

impl Catalog {
    /// The result of a plan as JSON, or `None` if no build of it ever finished.
    pub async fn build(&self, plan: &Digest) -> Result<Option<String>> {
        query_scalar("SELECT result FROM builds WHERE plan = $1")
            .bind(plan.to_string())
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::database("find a build"))
    }

    /// Records the result of a plan; a later result replaces an earlier one. Times are in unix seconds.
    pub async fn record_build(&self, plan: &Digest, result: &str, started: i64, finished: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        insert_build(&mut tx, plan, result, started, finished).await?;
        let change = Change::Build { plan: plan.clone(), result: result.to_owned(), started, finished };
        self.commit_changes(tx, finished, vec![change]).await
    }

    /// Records that `name` stands for these bytes at `at` (unix seconds), unless it already did. Returns `true` if it
    /// added a fact: the name was new or last stood for other bytes. Earlier facts are never overwritten.
    pub async fn remember(
        &self,
        kind: &str,
        name: &str,
        digest: &Digest,
        size: u64,
        at: i64,
    ) -> Result<bool> {
        let mut tx = self.begin().await?;
        if last(&mut tx, kind, name).await?.as_ref() == Some(digest) {
            return Ok(false);
        }
        add(&mut tx, kind, name, digest, size, at).await?;
        let change =
            Change::Name { kind: kind.to_owned(), name: name.to_owned(), digest: digest.clone(), size };
        self.commit_changes(tx, at, vec![change]).await?;
        Ok(true)
    }

    /// Withdraws the last fact about `name`, so that the name stands for nothing until [`Catalog::remember`] adds a new
    /// one. Does nothing if the name stands for nothing.
    pub async fn withdraw(&self, kind: &str, name: &str, at: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        if !end(&mut tx, kind, name, at).await? {
            return Ok(());
        }
        let change = Change::Withdrawn { kind: kind.to_owned(), name: name.to_owned() };
        self.commit_changes(tx, at, vec![change]).await
    }

    /// The bytes that a name last stood for; `None` also if the fact was withdrawn.
    pub async fn latest(&self, kind: &str, name: &str) -> Result<Option<Digest>> {
        let mut connection = self.readers.acquire().await.map_err(Error::database("be read"))?;
        last(&mut connection, kind, name).await
    }

    /// Every name of `kind` that stands for something, sorted, with the bytes that it stands for.
    pub async fn names(&self, kind: &str) -> Result<Vec<(String, Mirrored)>> {
        self.names_below(kind, "").await
    }

    /// As [`Catalog::names`], only names that begin with `prefix`.
    pub async fn names_below(&self, kind: &str, prefix: &str) -> Result<Vec<(String, Mirrored)>> {
        let rows: Vec<(String, String, i64, i64)> = query_as(
            "SELECT name, digest, size, first_seen FROM mirrored AS newest
             WHERE kind = $1 AND name >= $2 AND name < $3 AND withdrawn = 0
             AND seq = (SELECT MAX(seq) FROM mirrored WHERE kind = newest.kind AND name = newest.name)
             ORDER BY name",
        )
        .bind(kind)
        .bind(prefix)
        // The end of the prefix in byte order, which is the order of the key.
        .bind(format!("{prefix}\u{10ffff}"))
        .fetch_all(&self.readers)
        .await
        .map_err(Error::database("list the names of a kind"))?;
        let fact = |(name, text, bytes, first_seen)| {
            Ok((name, Mirrored { digest: digest(text)?, size: size(bytes), first_seen }))
        };
        rows.into_iter().map(fact).collect()
    }

    /// Everything that a name ever stood for, the oldest first.
    pub async fn history(&self, kind: &str, name: &str) -> Result<Vec<Mirrored>> {
        let rows: Vec<(String, i64, i64)> = query_as(
            "SELECT digest, size, first_seen FROM mirrored
             WHERE kind = $1 AND name = $2 AND withdrawn = 0 ORDER BY seq",
        )
        .bind(kind)
        .bind(name)
        .fetch_all(&self.readers)
        .await
        .map_err(Error::database("read a name's history"))?;
        let fact =
            |(text, bytes, first_seen)| Ok(Mirrored { digest: digest(text)?, size: size(bytes), first_seen });
        rows.into_iter().map(fact).collect()
    }
}

pub(super) async fn insert_build(
    connection: &mut Connection,
    plan: &Digest,
    result: &str,
    started: i64,
    finished: i64,
) -> Result<()> {
    query(
        "INSERT INTO builds (plan, result, started, finished) VALUES ($1, $2, $3, $4)
         ON CONFLICT (plan) DO UPDATE
         SET result = excluded.result, started = excluded.started, finished = excluded.finished",
    )
    .bind(plan.to_string())
    .bind(result)
    .bind(started)
    .bind(finished)
    .execute(connection)
    .await
    .map_err(Error::database("record a build"))?;
    Ok(())
}

pub(super) async fn add(
    connection: &mut Connection,
    kind: &str,
    name: &str,
    digest: &Digest,
    size: u64,
    at: i64,
) -> Result<()> {
    query(
        "INSERT INTO mirrored (kind, name, seq, digest, size, first_seen)
         SELECT $1, $2, COALESCE(MAX(seq), 0) + 1, $3, $4, $5 FROM mirrored WHERE kind = $1 AND name = $2",
    )
    .bind(kind)
    .bind(name)
    .bind(digest.to_string())
    .bind(stored(size))
    .bind(at)
    .execute(connection)
    .await
    .map_err(Error::database("remember a name"))?;
    Ok(())
}

/// Withdraws the last fact about a name; `false` if the name stood for nothing.
pub(super) async fn end(connection: &mut Connection, kind: &str, name: &str, at: i64) -> Result<bool> {
    let Some(digest) = last(connection, kind, name).await? else { return Ok(false) };
    query(
        "INSERT INTO mirrored (kind, name, seq, digest, size, first_seen, withdrawn)
         SELECT $1, $2, MAX(seq) + 1, $3, 0, $4, 1 FROM mirrored WHERE kind = $1 AND name = $2",
    )
    .bind(kind)
    .bind(name)
    .bind(digest.to_string())
    .bind(at)
    .execute(connection)
    .await
    .map_err(Error::database("withdraw a name"))?;
    Ok(true)
}

pub(super) async fn last(connection: &mut Connection, kind: &str, name: &str) -> Result<Option<Digest>> {
    let newest: Option<(String, i64)> = query_as(
        "SELECT digest, withdrawn FROM mirrored WHERE kind = $1 AND name = $2 ORDER BY seq DESC LIMIT 1",
    )
    .bind(kind)
    .bind(name)
    .fetch_optional(connection)
    .await
    .map_err(Error::database("find a name"))?;
    newest.filter(|(_, withdrawn)| *withdrawn == 0).map(|(text, _)| digest(text)).transpose()
}
