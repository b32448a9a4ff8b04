//! Runs file work where it cannot hold up the connections.

use hab_store::{Error, Result};
use tokio::task::spawn_blocking;

/// Runs `work` on a thread of its own.
pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    E: Send + 'static,
    Error: From<E>,
{
    Ok(spawn_blocking(work).await.map_err(Error::Worker)??)
}
