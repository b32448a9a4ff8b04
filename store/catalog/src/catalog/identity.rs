//! Which farm a catalog belongs to, and how many changes it holds.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, query, query_as, query_scalar};

use super::{Catalog, Connection, size, stored};
use crate::halves::CatalogHalf;
use crate::{Error, Result};

/// How many of the blobs that were added last are looked for on the disk.
const NEWEST: i64 = 200;

impl Catalog {
    /// What it says of itself; it is not new.
    pub(crate) async fn half(&self) -> Result<CatalogHalf> {
        let mut connection = self.readers.acquire().await.map_err(Error::database("be read"))?;
        half(&mut connection).await
    }

    /// The same, and what is seen at that moment: nobody writes meanwhile.
    pub(crate) async fn half_and<T>(&self, look: impl FnOnce() -> Result<T>) -> Result<(CatalogHalf, T)> {
        let mut tx = self.begin().await?;
        Ok((half(&mut tx).await?, look()?))
    }

    /// Marks it as this farm's, which holds so many changes; from now on entries of the journal go into a new segment.
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
        .map_err(Error::database("mark whose it is"))?;
        // Empty as it is, it says where the numbers go on.
        self.journal.begin(changes + 1)?;
        self.commit(tx).await
    }

    /// Has entries of the journal go into a new segment from the next one on.
    pub(crate) async fn begin_segment(&self) -> Result<()> {
        let mut tx = self.begin().await?;
        let segment: i64 = query_scalar("UPDATE identity SET segment = changes + 1 RETURNING segment")
            .fetch_one(&mut *tx)
            .await
            .map_err(Error::database("begin a segment of the journal"))?;
        self.journal.begin(size(segment))?;
        self.commit(tx).await
    }

    /// Marks every blob without a file as gone, and returns them: those are answered 404 from then on.
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

    /// Writes a copy of the catalog, as it is at one moment, to a path where nothing is.
    pub(crate) async fn copy_to(&self, path: &Path) -> Result<()> {
        // Not a reader's: those may only query, and this writes another file.
        let options = SqliteConnectOptions::new().filename(&self.path).busy_timeout(super::BUSY);
        let mut connection = options.connect().await.map_err(Error::database("be opened"))?;
        let copied = query("VACUUM INTO $1").bind(path.display().to_string()).execute(&mut connection).await;
        copied.map(drop).map_err(Error::database("be copied"))
    }

    /// Reads all of it, looking for damage. `Err` says what was found first.
    pub async fn check(&self) -> Result<()> {
        let mut connection = self.watch.connect().await.map_err(|e| e.in_catalog(&self.path))?;
        check(&mut connection).await.map_err(|e| e.in_catalog(&self.path))
    }

    /// Reads the first row of every table and the last one: that takes no time, and fails if the file is not what it was.
    pub(crate) async fn touch(&self) -> Result<()> {
        // A new one: the others have pages in memory, whatever became of the file.
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
        // It is closed either way.
        let _ = connection.close().await;
        Ok(())
    }
}

/// Counts one change more: its number, and the segment of the journal that its entry goes into.
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
        .map_err(Error::database("say whose it is"))?;
    Ok(match row {
        Some((farm, changes)) => CatalogHalf::Marked { farm, changes: size(changes), names_blobs },
        None => CatalogHalf::Unmarked { names_blobs },
    })
}

/// What a file says of itself, if it is a whole database; else a sentence about what is wrong with it. Nothing is written to it.
pub(crate) async fn examine(path: &Path) -> Result<CatalogHalf, String> {
    let read = async {
        let mut connection = read_only(path).await?;
        check(&mut connection).await?;
        let half = half_without_schema(&mut connection).await?;
        // It is closed either way.
        let _ = connection.close().await;
        Ok::<_, Error>(half)
    };
    read.await.map_err(|e| e.chain())
}

async fn read_only(path: &Path) -> Result<Connection> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    options.connect().await.map_err(Error::database("be opened for reading"))
}

/// An older version made fewer tables, and a new file has none.
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

/// The blobs that a catalog was last told of. Looks at all rows: only for when something is wrong.
pub(crate) async fn newest(path: &Path) -> Result<Vec<hab_oci::Digest>> {
    let mut connection = read_only(path).await?;
    let found: Vec<String> =
        query_scalar("SELECT digest FROM blobs WHERE damaged IS NULL ORDER BY created DESC LIMIT $1")
            .bind(NEWEST)
            .fetch_all(&mut connection)
            .await
            .map_err(Error::database("list the newest blobs"))?;
    // It is closed either way.
    let _ = connection.close().await;
    found.into_iter().map(super::digest).collect()
}
