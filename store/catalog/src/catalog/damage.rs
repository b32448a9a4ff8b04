//! Which blobs have damaged files, and how far a scrub has got.

use hab_oci::Digest;
use sqlx::{query, query_as, query_scalar};

use super::{Catalog, digest};
use crate::{Error, Result};

impl Catalog {
    /// Marks a blob whose file is damaged or gone; `at` is in unix seconds. Until it is pushed again, lookups find
    /// neither the blob nor a manifest of these bytes.
    pub(crate) async fn mark_damaged(&self, blob: &Digest, at: i64) -> Result<()> {
        let mark = query("UPDATE blobs SET damaged = $2 WHERE digest = $1").bind(blob.to_string()).bind(at);
        self.execute(mark, "mark a blob as damaged").await
    }

    /// Clears the mark of a blob whose file is good again.
    pub(crate) async fn mark_mended(&self, blob: &Digest) -> Result<()> {
        let mark = query("UPDATE blobs SET damaged = NULL WHERE digest = $1").bind(blob.to_string());
        self.execute(mark, "mark a blob as mended").await
    }

    /// The blobs whose digest begins with `prefix`, and whether their file is known to be damaged or gone.
    pub(crate) async fn blobs_below(&self, prefix: &str) -> Result<Vec<(Digest, bool)>> {
        let found: Vec<(String, bool)> = query_as(
            "SELECT digest, damaged IS NOT NULL FROM blobs WHERE digest >= $1 AND digest < $2 ORDER BY digest",
        )
        .bind(prefix)
        // `~` sorts after all hexadecimal digits.
        .bind(format!("{prefix}~"))
        .fetch_all(&self.readers)
        .await
        .map_err(Error::database("list blobs"))?;
        found.into_iter().map(|(text, damaged)| Ok((digest(text)?, damaged))).collect()
    }

    /// The position of some work, as [`Catalog::set_position`] recorded it.
    pub async fn position(&self, work: &str) -> Result<Option<String>> {
        query_scalar("SELECT place FROM positions WHERE work = $1")
            .bind(work)
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::database("find a position"))
    }

    /// Records the position from which this process or a later one continues some work.
    pub async fn set_position(&self, work: &str, place: &str) -> Result<()> {
        let note = query(
            "INSERT INTO positions (work, place) VALUES ($1, $2)
             ON CONFLICT (work) DO UPDATE SET place = excluded.place",
        )
        .bind(work)
        .bind(place);
        self.execute(note, "record a position").await
    }
}
