//! File work beside asynchronous work.

use tokio::task::spawn_blocking;

use crate::error::{Error, Result};

/// Runs file work on a thread where it cannot hold up the connections.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    E: Send + 'static,
    Error: From<E>,
{
    Ok(spawn_blocking(work).await.map_err(Error::Worker)??)
}
