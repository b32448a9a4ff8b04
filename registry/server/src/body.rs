//! Receives a request's body into a file. Only a few batches are in memory, and no thread waits for a client: a thread
//! is taken only to write a batch.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hab_store::{BlobWriter, Upload};
use hab_turns::{Client, Turn, Turns};
use http_body::Body as _;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::access::Refusal;
use crate::early::BodyError;
use crate::error::Error;
use crate::limits::ServiceLimits;

/// Bytes of a batch: large enough that a thread's wake-up does not show, small enough for many clients at once.
const BATCH: u64 = 512 * 1024;

/// Pieces smaller than this many bytes are joined before they are written.
const CRUMB: usize = 4 << 10;

/// Takes received bytes, and hashes them.
pub(crate) trait Sink: Send + 'static {
    fn add(&mut self, parts: Vec<Bytes>) -> hab_blobs::Result<()>;
    fn size(&self) -> u64;
}

impl Sink for BlobWriter {
    fn add(&mut self, parts: Vec<Bytes>) -> hab_blobs::Result<()> {
        self.add_parts(parts)
    }
    fn size(&self) -> u64 {
        Self::size(self)
    }
}

impl Sink for Upload {
    fn add(&mut self, parts: Vec<Bytes>) -> hab_blobs::Result<()> {
        self.add_parts(parts)
    }
    fn size(&self) -> u64 {
        Self::size(self)
    }
}

/// Runs file work on a thread where it cannot hold up the connections.
pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Error>
where
    T: Send + 'static,
    E: Send + 'static,
    Error: From<E>,
{
    Ok(spawn_blocking(work).await??)
}

/// Writes a whole body to `sink`. The next batch is received while one is written.
///
/// If this fails, the sink keeps the bytes that it got, and nothing writes to it any more.
pub(crate) async fn receive<S: Sink>(body: Body, sink: S, limit: u64, idle: Duration) -> Result<S, Error> {
    let mut room = limit.saturating_sub(sink.size());
    if body.size_hint().lower() > room {
        return Err(Error::BlobTooLarge { limit });
    }
    let mut stream = body.into_data_stream();
    let mut at = SinkState::Hand(sink);
    loop {
        let batch = collect(&mut stream, idle, &mut room, limit).await;
        let mut sink = match at {
            SinkState::Hand(sink) => sink,
            SinkState::Work(writing) => writing.await??,
        };
        let batch = batch?;
        if batch.is_empty() {
            return Ok(sink);
        }
        at = SinkState::Work(spawn_blocking(move || {
            sink.add(batch)?;
            Ok(sink)
        }));
    }
}

/// Whether a sink is at hand or with the thread that writes to it.
enum SinkState<S> {
    Hand(S),
    Work(JoinHandle<hab_store::Result<S>>),
}

async fn collect(
    stream: &mut BodyDataStream,
    idle: Duration,
    room: &mut u64,
    limit: u64,
) -> Result<Vec<Bytes>, Error> {
    let mut batch = Vec::new();
    let mut crumbs = BytesMut::new();
    let mut length = 0;
    while length < BATCH {
        let Some(bytes) = next(stream, idle).await? else { break };
        length += bytes.len() as u64;
        *room = room.checked_sub(bytes.len() as u64).ok_or(Error::BlobTooLarge { limit })?;
        // Each piece of a batch is a write of its own, and a client may send pieces of one byte.
        if bytes.len() < CRUMB {
            crumbs.extend_from_slice(&bytes);
            continue;
        }
        if !crumbs.is_empty() {
            batch.push(crumbs.split().freeze());
        }
        batch.push(bytes);
    }
    if !crumbs.is_empty() {
        batch.push(crumbs.freeze());
    }
    Ok(batch)
}

/// Reads a small body whole.
pub(crate) async fn read(body: Body, limit: usize, idle: Duration) -> Result<Vec<u8>, Error> {
    let mut stream = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(bytes) = next(&mut stream, idle).await? {
        if whole.len() + bytes.len() > limit {
            return Err(Error::ManifestTooLarge { limit });
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole)
}

/// The largest body that is read without a turn, in bytes.
pub(crate) const SMALL: usize = 128 << 10;
/// How long a large body waits for its turn, and the `Retry-After` that its client then gets.
const TURN: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(5);

/// Reads a whole manifest into memory. A large one needs a turn of its client: so all large manifests together take
/// bounded memory, and no client takes the turns of others.
pub(crate) async fn read_in_turn(
    body: Body,
    limits: &ServiceLimits,
    large: &Turns,
    client: Client,
) -> Result<(Vec<u8>, Option<Turn>), Error> {
    let limit = limits.manifest;
    // A body that is announced as too large is refused before it comes.
    if body.size_hint().lower() > limit as u64 {
        return Err(Error::ManifestTooLarge { limit });
    }
    let mut stream = body.into_data_stream();
    let (mut whole, mut turn) = (Vec::new(), None);
    while let Some(bytes) = next(&mut stream, limits.idle).await? {
        if whole.len() + bytes.len() > limit {
            return Err(Error::ManifestTooLarge { limit });
        }
        whole.extend_from_slice(&bytes);
        if whole.len() > SMALL && turn.is_none() {
            let given = timeout(TURN, large.take(client)).await;
            turn = Some(given.map_err(|_| Refusal::TooMany { wait: AGAIN })?);
        }
    }
    Ok((whole, turn))
}

/// The next bytes, never an empty piece. A body that ends before its announced length is an error.
async fn next(stream: &mut BodyDataStream, idle: Duration) -> Result<Option<Bytes>, Error> {
    loop {
        match timeout(idle, stream.next()).await {
            Err(_) => return Err(Error::Stalled),
            Ok(Some(Ok(bytes))) if bytes.is_empty() => {}
            Ok(Some(Ok(bytes))) => return Ok(Some(bytes)),
            Ok(Some(Err(error))) if BodyError::is_slow(&error) => return Err(Error::Stalled),
            Ok(Some(Err(error))) => return Err(Error::BodyBroken(error)),
            Ok(None) => return Ok(None),
        }
    }
}
