//! Syncs commits to disk before they are acknowledged, many of them with one write; and notices commits.
//!
//! SQLite by itself would sync its write-ahead log within every commit, one after the other. Here SQLite only writes
//! the log. A caller that committed then waits for a sync that began after its commit; one sync serves all who
//! committed meanwhile. The log is one file, so a commit on disk never depends on one that is not. Before SQLite copies
//! the log into the database, it syncs the log itself (`synchronous = NORMAL`).

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, query_scalar};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::batch::Batch;
use crate::{Error, Result};

/// `<data>/catalog.sqlite-wal`.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    syncs: Batch<()>,
    /// Set when a sync fails. The bytes may be lost although a later sync succeeds, so every later call fails.
    failed: AtomicBool,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, syncs: Batch::default(), failed: AtomicBool::new(false) }
    }

    /// Returns when everything that was committed before this call is on disk.
    pub(super) async fn sync(&self) -> Result<()> {
        self.syncs.run(async || self.sync_now().await).await
    }

    /// An error if a sync ever failed.
    pub(super) fn is_sound(&self) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            let again = io::Error::other("an earlier write failed; restart the program");
            return Err(Error::io("write", &self.path)(again));
        }
        Ok(())
    }

    async fn sync_now(&self) -> Result<()> {
        self.is_sound()?;
        let path = self.path.clone();
        let sync = move || match File::open(&path) {
            Ok(log) => log.sync_data(),
            // SQLite has copied the log into the database, synced that, and removed the log.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        };
        let synced = spawn_blocking(sync).await.map_err(Error::Worker)?;
        if synced.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        synced.map_err(Error::io("write", &self.path))
    }
}

/// A version of the catalog; a later one is larger. Every commit of any process changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Version {
    /// How often `Watch` reconnected: SQLite's counter belongs to one connection.
    connection: u64,
    commits: i64,
}

/// A connection that only looks for commits of other connections.
#[derive(Debug)]
pub(super) struct Watch {
    options: SqliteConnectOptions,
    looks: Batch<Version>,
    /// Guards the number of connects and the connection. Held while the catalog is asked.
    connection: Mutex<(u64, Option<SqliteConnection>)>,
}

impl Watch {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, looks: Batch::default(), connection: Mutex::default() }
    }

    /// Opens another connection of the same kind.
    pub(super) async fn connect(&self) -> Result<SqliteConnection> {
        self.options.connect().await.map_err(Error::database("be opened for reading"))
    }

    /// The version after everything that was committed before this call.
    pub(super) async fn version(&self) -> Result<Version> {
        self.looks.run(async || self.look().await).await
    }

    async fn look(&self) -> Result<Version> {
        let mut held = self.connection.lock().await;
        let (count, connection) = &mut *held;
        // Take the connection out, so that it is not used again if the query fails or is cancelled.
        let mut used = if let Some(connection) = connection.take() {
            connection
        } else {
            *count += 1;
            self.options.connect().await.map_err(Error::database("be opened for reading"))?
        };
        let commits = query_scalar("PRAGMA data_version")
            .fetch_one(&mut used)
            .await
            .map_err(Error::database("say whether it changed"))?;
        *connection = Some(used);
        Ok(Version { connection: *count, commits })
    }
}
