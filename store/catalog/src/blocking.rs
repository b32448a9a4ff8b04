//! File work beside asynchronous work.

use tokio::task::spawn_blocking;

use crate::error::{Error, Result};

pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    E: Send + 'static,
    Error: From<E>,
{
    Ok(spawn_blocking(work).await.map_err(Error::Worker)??)
}
