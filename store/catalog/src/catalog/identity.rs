//! Which farm a catalog belongs to, and how many changes it holds.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, query, query_as, query_scalar};

use super::engine::Connection;
use super::{Catalog, size, stored};
use crate::halves::CatalogHalf;
use crate::{Error, Result};

/// How many of the newest blobs are looked for on disk.
const NEWEST: i64 = 200;

impl Catalog {
    /// The catalog's half. It cannot be new, because it is open.
    pub(crate) async fn half(&self) -> Result<CatalogHalf> {
        let mut connection = self.readers.acquire().await.map_err(Error::database("be read"))?;
        half(&mut connection).await
    }

    /// The catalog's half and the result of `look`. Nobody can write in between.
    pub(crate) async fn half_and<T>(&self, look: impl FnOnce() -> Result<T>) -> Result<(CatalogHalf, T)> {
        let mut tx = self.begin().await?;
        Ok((half(&mut tx).await?, look()?))
    }

    /// Marks the catalog with a farm and a count of changes, and begins a new segment of the journal.
    pub(crate) async fn mark(&self, farm: &str, changes: u64) -> Result<()> {
        let mut tx = self.begin().await?;
        query(
            "INSERT INTO identity (only_row, farm, changes, segment) VALUES (1, $1, $2, $3)
             ON CONFLICT (only_row) DO UPDATE
             SET farm = excluded.farm, changes = excluded.changes, segment = excluded.segment",
        )
        .bind(farm)
        .bind(stored(changes))
        .bind(stored(changes + 1))
        .execute(&mut *tx)
        .await
        .map_err(Error::database("record its farm"))?;
        // The empty segment's name says where the numbers continue.
        self.journal.begin(changes + 1)?;
        self.commit(tx).await
    }

    /// Begins a new segment of the journal with the next entry.
    pub(crate) async fn begin_segment(&self) -> Result<()> {
        let mut tx = self.begin().await?;
        let segment: i64 = query_scalar("UPDATE identity SET segment = changes + 1 RETURNING segment")
            .fetch_one(&mut *tx)
            .await
            .map_err(Error::database("begin a segment of the journal"))?;
        self.journal.begin(size(segment))?;
        self.commit(tx).await
    }

    /// Marks every blob without a file as gone, and returns these blobs. Requests for them are answered 404 from then
    /// on.
    pub(crate) async fn mark_gone(&self, blobs: &crate::Blobs, at: i64) -> Result<Vec<hab_oci::Digest>> {
        let mut tx = self.begin().await?;
        let named: Vec<String> =
            query_scalar("SELECT digest FROM blobs WHERE damaged IS NULL ORDER BY digest")
                .fetch_all(&mut *tx)
                .await
                .map_err(Error::database("list blobs"))?;
        let mut gone = Vec::new();
        for text in named {
            let digest = super::digest(text)?;
            if blobs.get(&digest)?.is_none() {
                query("UPDATE blobs SET damaged = $2 WHERE digest = $1")
                    .bind(digest.to_string())
                    .bind(at)
                    .execute(&mut *tx)
                    .await
                    .map_err(Error::database("mark a blob as gone"))?;
                gone.push(digest);
            }
        }
        self.commit(tx).await?;
        Ok(gone)
    }

    /// Writes a copy of one snapshot of the catalog to a path where no file exists.
    pub(crate) async fn copy_to(&self, path: &Path) -> Result<()> {
        // Needs its own connection: the readers may only query, and this writes another file.
        let options = SqliteConnectOptions::new().filename(&self.path).busy_timeout(super::BUSY);
        let mut connection = options.connect().await.map_err(Error::database("be opened"))?;
        let copied = query("VACUUM INTO $1").bind(path.display().to_string()).execute(&mut connection).await;
        copied.map(drop).map_err(Error::database("be copied"))
    }

    /// Reads the whole catalog and checks it for damage. The error is the first damage found.
    pub async fn check(&self) -> Result<()> {
        let mut connection = self.watch.connect().await.map_err(|e| e.in_catalog(&self.path))?;
        check(&mut connection).await.map_err(|e| e.in_catalog(&self.path))
    }

    /// Reads the first and last row of every table. This is fast, and fails if the file was damaged or replaced.
    pub(crate) async fn touch(&self) -> Result<()> {
        // Use a new connection: the others have pages in memory, even if the file is damaged.
        let mut connection = self.watch.connect().await?;
        for table in ["repositories", "blobs", "repository_blobs", "manifests", "edges", "tags", "mirrored"] {
            for order in ["ASC", "DESC"] {
                let sql = format!("SELECT 1 FROM (SELECT * FROM {table} ORDER BY rowid {order} LIMIT 1)");
                query(sqlx::AssertSqlSafe(sql))
                    .fetch_optional(&mut connection)
                    .await
                    .map_err(Error::database("be read"))?;
            }
        }
        // The connection is closed even if this fails.
        let _ = connection.close().await;
        Ok(())
    }
}

/// Increments the count of changes. Returns the new number and the segment of the journal for its entry.
pub(super) async fn count(connection: &mut Connection) -> Result<(u64, u64)> {
    let counted: (i64, i64) =
        query_as("UPDATE identity SET changes = changes + 1 RETURNING changes, segment")
            .fetch_one(connection)
            .await
            .map_err(Error::database("count a change"))?;
    Ok((size(counted.0), size(counted.1)))
}

async fn check(connection: &mut Connection) -> Result<()> {
    let found: String = query_scalar("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await
        .map_err(Error::database("be checked"))?;
    if found == "ok" {
        Ok(())
    } else {
        Err(Error::Database { doing: "be checked", source: sqlx::Error::Protocol(found) })
    }
}

async fn half(connection: &mut Connection) -> Result<CatalogHalf> {
    let names_blobs: Option<i64> = query_scalar("SELECT 1 FROM blobs WHERE damaged IS NULL LIMIT 1")
        .fetch_optional(&mut *connection)
        .await
        .map_err(Error::database("be read"))?;
    let names_blobs = names_blobs.is_some();
    let row: Option<(String, i64)> = query_as("SELECT farm, changes FROM identity")
        .fetch_optional(connection)
        .await
        .map_err(Error::database("name its farm"))?;
    Ok(match row {
        Some((farm, changes)) => CatalogHalf::Marked { farm, changes: size(changes), names_blobs },
        None => CatalogHalf::Unmarked { names_blobs },
    })
}

/// Reads the half of a catalog's file, if it is a whole database; otherwise returns a sentence about the damage. Does
/// not write to the file.
pub(crate) async fn examine(path: &Path) -> Result<CatalogHalf, String> {
    let read = async {
        let mut connection = read_only(path).await?;
        check(&mut connection).await?;
        let half = half_without_schema(&mut connection).await?;
        // The connection is closed even if this fails.
        let _ = connection.close().await;
        Ok::<_, Error>(half)
    };
    read.await.map_err(|e| hab_chain::chain(&e))
}

async fn read_only(path: &Path) -> Result<Connection> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    options.connect().await.map_err(Error::database("be opened for reading"))
}

/// Reads the half of a catalog that may lack tables: an older version made fewer, and a new file has none.
async fn half_without_schema(connection: &mut Connection) -> Result<CatalogHalf> {
    let tables: Vec<String> =
        query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('blobs', 'identity')")
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::database("be read"))?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    match (has("blobs"), has("identity")) {
        (false, _) => Ok(CatalogHalf::New),
        (true, true) => half(connection).await,
        (true, false) => {
            let any: Option<i64> = query_scalar("SELECT 1 FROM blobs LIMIT 1")
                .fetch_optional(connection)
                .await
                .map_err(Error::database("be read"))?;
            Ok(CatalogHalf::Unmarked { names_blobs: any.is_some() })
        }
    }
}

/// The newest blobs of a catalog. Reads all rows, so it is only for cases where something is wrong.
pub(crate) async fn newest(path: &Path) -> Result<Vec<hab_oci::Digest>> {
    let mut connection = read_only(path).await?;
    let found: Vec<String> =
        query_scalar("SELECT digest FROM blobs WHERE damaged IS NULL ORDER BY created DESC LIMIT $1")
            .bind(NEWEST)
            .fetch_all(&mut connection)
            .await
            .map_err(Error::database("list the newest blobs"))?;
    // The connection is closed even if this fails.
    let _ = connection.close().await;
    found.into_iter().map(super::digest).collect()
}
