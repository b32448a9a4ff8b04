//! The one connection that writes. It is not in a pool: a pool would ping it before and after each use, which costs
//! more than the writing.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, query};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::engine::Connection;
use crate::{Error, Result};

/// The connection and the turn to use it, first come first served.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    /// Guards the connection; a writer holds it. It is `None` after an error of the connection, and the next writer
    /// reconnects.
    turn: Arc<Mutex<Option<Connection>>>,
    closed: AtomicBool,
}

/// A transaction and the turn to write. If it is dropped before the commit, it is rolled back.
#[derive(Debug)]
pub(super) struct Tx {
    turn: Option<OwnedMutexGuard<Option<Connection>>>,
    connection: Option<Connection>,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, connection: Connection) -> Self {
        Self { options, turn: Arc::new(Mutex::new(Some(connection))), closed: AtomicBool::new(false) }
    }

    pub(super) async fn begin(&self) -> Result<Tx> {
        let mut tx = self.take().await?;
        // Only the word IMMEDIATE is not portable: PostgreSQL has row locks instead.
        let begun = query("BEGIN IMMEDIATE").execute(&mut *tx).await;
        if let Err(e) = begun {
            tx.connection = None;
            return Err(Error::database("begin to write")(e));
        }
        Ok(tx)
    }

    /// Takes the turn and the connection, without a transaction.
    pub(super) async fn take(&self) -> Result<Tx> {
        let mut turn = self.turn.clone().lock_owned().await;
        let connection = match turn.take() {
            Some(connection) => connection,
            None if self.closed.load(Ordering::Relaxed) => {
                return Err(Error::database("be opened")(sqlx::Error::PoolClosed));
            }
            None => self.options.connect().await.map_err(Error::database("be opened"))?,
        };
        Ok(Tx { turn: Some(turn), connection: Some(connection) })
    }

    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(connection) = self.turn.lock().await.take() {
            // The connection is closed even if this fails.
            let _ = connection.close().await;
        }
    }
}

impl Tx {
    /// Commits. A connection that could not commit is not used again: SQLite may or may not have rolled back.
    pub(super) async fn commit(mut self) -> Result<()> {
        let committed = query("COMMIT").execute(&mut *self).await;
        if committed.is_ok() {
            self.give_back();
        } else {
            self.connection = None;
        }
        committed.map(drop).map_err(Error::database("commit"))
    }

    /// Gives the turn to the next writer. No transaction may be open.
    pub(super) fn give_back(&mut self) {
        if let Some(turn) = &mut self.turn {
            **turn = self.connection.take();
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let (Some(mut turn), Some(mut connection)) = (self.turn.take(), self.connection.take()) else {
            return;
        };
        // Without a runtime the program is ending, and SQLite rolls the transaction back.
        let Ok(runtime) = Handle::try_current() else { return };
        // Keep the turn until the rollback ends, so that other processes do not wait for a lock that this process still
        // holds.
        runtime.spawn(async move {
            if query("ROLLBACK").execute(&mut connection).await.is_ok() {
                *turn = Some(connection);
            }
        });
    }
}

impl Deref for Tx {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("only `drop` and `commit`, which end it, take the connection")
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("only `drop` and `commit`, which end it, take the connection")
    }
}
