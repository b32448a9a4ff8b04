//! Facts about the bytes, in SQL: who holds what, what points at what, which tag was where and when.
//!
//! One connection of a process writes, in transactions that take the database's write lock at their start, so that
//! what a transaction reads first is still true when it commits, whichever process is writing. Readers never wait.
//! Every read is by an index.

mod collect;
mod damage;
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
use sqlx::{ConnectOptions as _, Execute, Executor as _, QueryBuilder, Sqlite};

use crate::journal::{Change, Journal};
use crate::{Error, Result, Tags};
pub(crate) use collect::Sweep;
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

/// How long a writer waits for a writer of another process. Transactions here take milliseconds.
const BUSY: Duration = Duration::from_secs(30);
const READERS: u32 = 4;

/// `<data>/catalog.sqlite`. A clone is another handle on the same connections.
#[derive(Clone, Debug)]
pub struct Catalog {
    writer: Arc<Writer>,
    readers: SqlitePool,
    log: Arc<Log>,
    watch: Arc<Watch>,
    journal: Arc<Journal>,
    path: Arc<Path>,
    /// Held by a publication of very many edges, before its turn to write.
    large: Arc<tokio::sync::Mutex<()>>,
    /// Tags that stay where they are.
    immutable: Arc<[Tags]>,
}

/// The engine, named here alone.
type Engine = Sqlite;
type Connection = <Engine as sqlx::Database>::Connection;

impl Catalog {
    /// Opens the catalog, making it or bringing it to this version's schema where needed. What it says of its farm is
    /// not looked at: that is [`crate::Store::open`]'s, which holds the lock of whoever opens.
    ///
    /// [`Error::Newer`] if a later version wrote it, [`Error::CatalogDamaged`] if it is no database or a damaged one.
    pub(crate) async fn open(path: &Path, journal: Journal) -> Result<Self> {
        let opened = Self::connect(path, journal).await;
        opened.map_err(|e| e.in_catalog(path))
    }

    async fn connect(path: &Path, journal: Journal) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What a commit promises is `Log`'s to keep.
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
            // It is a file: there is nobody at the other end who could have gone.
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

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same catalog, in which these tags stay where they are once they exist.
    #[must_use]
    pub fn with_immutable(mut self, tags: &[Tags]) -> Self {
        self.immutable = tags.into();
        self
    }

    /// Closes the connections; what was committed is on disk with or without this.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Whether what is committed still comes to the disk.
    pub(crate) fn is_sound(&self) -> Result<()> {
        self.log.is_sound()
    }

    /// What it is now: two equal answers mean that nothing was committed between the one and the other.
    pub async fn version(&self) -> Result<Version> {
        self.watch.version().await
    }

    async fn begin(&self) -> Result<Tx> {
        self.writer.begin().await
    }

    /// Others see it before it is on disk; the caller does not hear of it before.
    async fn commit(&self, tx: Tx) -> Result<()> {
        tx.commit().await?;
        self.log.sync().await
    }

    /// The same of a transaction that changes facts: it counts one change more, and the journal has it before the catalog.
    async fn commit_changes(&self, mut tx: Tx, at: i64, changes: Vec<Change>) -> Result<()> {
        if changes.is_empty() {
            return self.commit(tx).await;
        }
        let (number, segment) = identity::count(&mut tx).await?;
        // A few hundred bytes into the page cache: not worth a thread.
        let written = self.journal.append(segment, number, at, changes)?;
        let committed = tx.commit().await;
        if committed.is_err() {
            // The error that matters is the first one.
            let _ = self.journal.take_back(written);
        }
        committed?;
        self.log.sync().await
    }

    /// A transaction of one statement.
    async fn execute<'q>(&self, statement: impl Execute<'q, Engine> + 'q, what: &'static str) -> Result<()> {
        self.execute_unsynced(statement, what).await?;
        self.log.sync().await
    }

    /// The same, of what may be gone after a power failure.
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

/// Rows that one statement asks for or adds: a statement has a cost of its own, however little it does.
const ROWS: usize = 400;

/// Digests and sizes that a statement finds, of so many of `digests` at a time. The statement is given in two parts, after
/// which come the repository and the digests.
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

/// No file is as large as the database's largest number.
fn stored(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The schema refuses sizes below zero.
fn size(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}
