//! Which blobs' files are damaged, and how far the search for them is.

use hab_oci::Digest;
use sqlx::{query, query_as, query_scalar};

use super::{Catalog, digest};
use crate::{Error, Result};

impl Catalog {
    /// A blob's file is damaged or gone since `at`, in unix seconds. Until it is pushed again there is no such blob, nor
    /// a manifest of these bytes.
    pub(crate) async fn mark_damaged(&self, blob: &Digest, at: i64) -> Result<()> {
        let mark = query("UPDATE blobs SET damaged = $2 WHERE digest = $1").bind(blob.to_string()).bind(at);
        self.execute(mark, "mark a blob as damaged").await
    }

    /// A damaged blob's file is there again.
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
        // Behind all hexadecimal digits.
        .bind(format!("{prefix}~"))
        .fetch_all(&self.readers)
        .await
        .map_err(Error::database("list blobs"))?;
        found.into_iter().map(|(text, damaged)| Ok((digest(text)?, damaged))).collect()
    }

    /// Where some work goes on, as [`Catalog::set_position`] noted it.
    pub async fn position(&self, work: &str) -> Result<Option<String>> {
        query_scalar("SELECT place FROM positions WHERE work = $1")
            .bind(work)
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::database("find where work goes on"))
    }

    /// Notes where some work goes on when it is taken up again, by this process or the next one.
    pub async fn set_position(&self, work: &str, place: &str) -> Result<()> {
        let note = query(
            "INSERT INTO positions (work, place) VALUES ($1, $2)
             ON CONFLICT (work) DO UPDATE SET place = excluded.place",
        )
        .bind(work)
        .bind(place);
        self.execute(note, "note where work goes on").await
    }
}
