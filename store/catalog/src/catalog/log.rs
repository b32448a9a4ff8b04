//! Commits that are on disk before anybody hears of them, many of them with one write of the disk; and whether there were
//! any.
//!
//! SQLite would sync its write-ahead log within every commit, one after the other. Here it writes the log, and whoever
//! committed waits for a sync that began afterwards, which is one for all who committed meanwhile. The log is one file,
//! so nothing that is on disk stands on something that is not; and before it is carried over into the database SQLite
//! syncs it by itself (`synchronous = NORMAL`).

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
    /// What could not be written once may be lost though the next sync says otherwise, so nothing is promised any more.
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
            let again = io::Error::other("it could not be written before; start the program again");
            return Err(Error::io("write", &self.path)(again));
        }
        Ok(())
    }

    async fn sync_now(&self) -> Result<()> {
        self.is_sound()?;
        let path = self.path.clone();
        let sync = move || match File::open(&path) {
            Ok(log) => log.sync_data(),
            // SQLite has carried it over, synced, and removed it.
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

/// What the catalog is at a moment; a later one is larger. Any commit of any process makes it another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Version {
    /// How often it was connected anew: SQLite counts for each connection.
    connection: u64,
    commits: i64,
}

/// A connection that only looks for commits of others.
#[derive(Debug)]
pub(super) struct Watch {
    options: SqliteConnectOptions,
    looks: Batch<Version>,
    /// Used by the one look that runs.
    connection: Mutex<(u64, Option<SqliteConnection>)>,
}

impl Watch {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, looks: Batch::default(), connection: Mutex::default() }
    }

    /// Another connection of the same kind.
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
        // Taken out, so that one that failed, or was given up in the middle, is not used again.
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
