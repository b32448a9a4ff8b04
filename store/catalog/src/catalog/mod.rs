//! The catalog: facts about blobs in SQL. Which repository holds which blob, what points at what, and where each tag
//! was when.
//!
//! Each process writes through one connection. A transaction takes the database's write lock at its start, so what it
//! reads is still true when it commits, even if other processes write. Readers never wait. Every read uses an index.

mod collect;
mod damage;
mod engine;
mod facts;
mod holding;
mod identity;
mod listing;
mod log;
mod manifests;
mod naming;
mod needed;
mod replay;
mod repositories;
mod tags;
mod uploads;
mod writer;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hab_oci::{Digest, RepositoryName};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Execute, Executor as _, QueryBuilder};

use crate::journal::{Change, Journal};
use crate::{Error, Result, Tags};
pub(crate) use collect::Sweep;
use engine::{Connection, Engine};
pub use facts::Mirrored;
pub(crate) use identity::{examine, newest};
pub use listing::{RepositoryRow, TagRow, Totals};
pub use log::Version;
use log::{Log, Watch};
pub(crate) use manifests::{Facts, Reading};
pub use manifests::{ManifestRecord, Referrer};
pub use tags::{Back, TagMove};
use writer::{Tx, Writer};

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// How long a writer waits for a writer of another process. Transactions take milliseconds.
const BUSY: Duration = Duration::from_secs(30);
const READERS: u32 = 4;

/// The open catalog, `<data>/catalog.sqlite`. A clone is another handle on the same connections.
#[derive(Clone, Debug)]
pub struct Catalog {
    writer: Arc<Writer>,
    readers: SqlitePool,
    log: Arc<Log>,
    watch: Arc<Watch>,
    journal: Arc<Journal>,
    path: Arc<Path>,
    /// Held by a publication of more than `MANY` edges while it waits to write and writes.
    large: Arc<tokio::sync::Mutex<()>>,
    /// Tags that must not move or be deleted.
    immutable: Arc<[Tags]>,
}

impl Catalog {
    /// Opens the catalog; creates it or migrates it to this version's schema if needed. Does not check its farm:
    /// [`crate::Store::open`] does that, under the lock for opening.
    ///
    /// [`Error::Newer`] if a later version wrote it, [`Error::CatalogDamaged`] if the file is damaged or is not a
    /// database.
    pub(crate) async fn open(path: &Path, journal: Journal) -> Result<Self> {
        let opened = Self::connect(path, journal).await;
        opened.map_err(|e| e.in_catalog(path))
    }

    async fn connect(path: &Path, journal: Journal) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // `Log` syncs commits to disk.
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let mut writer = options.connect().await.map_err(Error::database("be opened"))?;
        MIGRATOR.run(&mut writer).await.map_err(|e| refuse(path, e))?;
        let writer = Arc::new(Writer::new(options.clone(), writer));
        let options = options.pragma("query_only", "ON");
        let watch = Arc::new(Watch::new(options.clone()));
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            // The database is a file: no server can have closed the connection.
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(Error::database("be opened for reading"))?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Ok(Self {
            writer,
            readers,
            log: Arc::new(Log::new(log.into())),
            watch,
            journal: Arc::new(journal),
            path: path.into(),
            large: Arc::default(),
            immutable: Arc::new([]),
        })
    }

    /// The path of the catalog's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes these tags immutable in this handle: they do not move once they exist.
    #[must_use]
    pub fn with_immutable(mut self, tags: &[Tags]) -> Self {
        self.immutable = tags.into();
        self
    }

    /// Closes the connections. Acknowledged commits are on disk even without this.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Fails if a commit could not be synced to disk.
    pub(crate) fn is_sound(&self) -> Result<()> {
        self.log.is_sound()
    }

    /// The current version: if two calls return the same one, nothing was committed between them.
    pub async fn version(&self) -> Result<Version> {
        self.watch.version().await
    }

    async fn begin(&self) -> Result<Tx> {
        self.writer.begin().await
    }

    /// Commits, and returns when the commit is on disk. Other connections see it earlier.
    async fn commit(&self, tx: Tx) -> Result<()> {
        tx.commit().await?;
        self.log.sync().await
    }

    /// Commits a transaction that changes facts: increments the count of changes, and writes the journal's entry before
    /// the commit.
    async fn commit_changes(&self, mut tx: Tx, at: i64, changes: Vec<Change>) -> Result<()> {
        if changes.is_empty() {
            return self.commit(tx).await;
        }
        let (number, segment) = identity::count(&mut tx).await?;
        // Writes a few hundred bytes into the page cache, so it needs no blocking thread.
        let written = self.journal.append(segment, number, at, changes)?;
        let committed = tx.commit().await;
        if committed.is_err() {
            // The first error is the one that matters.
            let _ = self.journal.take_back(written);
        }
        committed?;
        self.log.sync().await
    }

    /// Runs one statement as a transaction.
    async fn execute<'q>(&self, statement: impl Execute<'q, Engine> + 'q, what: &'static str) -> Result<()> {
        self.execute_unsynced(statement, what).await?;
        self.log.sync().await
    }

    /// Runs one statement as a transaction that a power failure may lose.
    async fn execute_unsynced<'q>(
        &self,
        statement: impl Execute<'q, Engine> + 'q,
        what: &'static str,
    ) -> Result<()> {
        let mut tx = self.writer.take().await?;
        tx.execute(statement).await.map_err(Error::database(what))?;
        tx.give_back();
        Ok(())
    }
}

fn refuse(path: &Path, error: MigrateError) -> Error {
    let known = MIGRATOR.iter().map(|m| m.version).max().unwrap_or_default();
    match error {
        MigrateError::VersionMissing(found) if found > known => {
            Error::Newer { path: path.to_owned(), found, known }
        }
        other => Error::Migrate { path: path.to_owned(), source: Box::new(other) },
    }
}

/// Rows that one statement reads or inserts. Many at once, because each statement has a fixed cost.
const ROWS: usize = 400;

/// Runs a statement for [`ROWS`] of `digests` at a time, and returns the digests and sizes that it finds. The
/// repository follows the statement's first part, the digests its second.
async fn sizes(
    connection: &mut Connection,
    (before, between): (&'static str, &'static str),
    repository: &RepositoryName,
    digests: &BTreeSet<&Digest>,
    what: &'static str,
) -> Result<HashMap<Digest, u64>> {
    let all: Vec<_> = digests.iter().collect();
    let mut found = HashMap::with_capacity(all.len());
    for some in all.chunks(ROWS) {
        let mut select = QueryBuilder::<Engine>::new(before);
        select.push_bind(repository.as_str()).push(between);
        let mut list = select.separated(", ");
        for digest in some {
            list.push_bind(digest.to_string());
        }
        select.push(")");
        let rows: Vec<(String, i64)> =
            select.build_query_as().fetch_all(&mut *connection).await.map_err(Error::database(what))?;
        for (text, bytes) in rows {
            found.insert(digest(text)?, size(bytes));
        }
    }
    Ok(found)
}

fn digest(text: String) -> Result<Digest> {
    text.parse().map_err(|_| Error::Nonsense { what: "digest", value: text })
}

/// A size as the database stores it. No file exceeds the largest number of the database.
fn stored(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A size from the database, whose schema refuses negative ones.
fn size(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}
