//! Downloads one blob from an upstream, however many clients wait for it: one request fills a file, and all of them
//! read from the file as it grows.
//!
//! The last byte is held back until the digest is checked, so that nobody ever has the whole of wrong bytes, neither
//! from one answer nor from many parts. No more can be promised of bytes that are sent before the last one came,
//! because a digest is about the whole alone. A client that puts parts together waits for the last byte, too. A client
//! that uses parts alone checks them against a list of its own (the chunk digests in a layer's table of contents),
//! since the digest of the whole says nothing about them. A part is sent from this very file, whose bytes are all
//! hashed. It is never asked for upstream by itself, because nobody could ever check those bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use hab_oci::{Digest, RepositoryName};
use hab_outbound::story;
use hab_store::{BlobWriter, Store};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::client::Client;
use crate::failure::Failure;
use crate::memory::locked;
use hab_clock::now;

/// Bytes that are read for one client at a time.
const BATCH: u64 = 256 * 1024;
/// The download fails when it breaks off this many times in a row.
const ATTEMPTS: usize = 4;
/// After this many bytes, a resumed download counts as going on again.
const PROGRESS: u64 = 1 << 20;

/// How far a download is.
#[derive(Clone, Debug, Default)]
struct State {
    /// Bytes that may be read.
    available: u64,
    /// Whether it has ended, and how.
    ended: Option<Result<(), Failure>>,
}

/// A running download, which further clients may join.
#[derive(Clone, Debug)]
pub struct Download {
    file: Arc<File>,
    size: u64,
    state: watch::Receiver<State>,
    /// Other repositories of the same upstream that will hold the blob once it is stored; `None` once it is too late to
    /// add one. Held to add or take names only.
    promised: Arc<Mutex<Option<Vec<RepositoryName>>>>,
}

/// A blob to fetch, and the repositories there and here.
pub(crate) struct BlobFetch {
    pub(crate) client: Arc<Client>,
    pub(crate) store: Store,
    /// The repository here.
    pub(crate) local: RepositoryName,
    /// The repository there.
    pub(crate) remote: String,
    pub(crate) digest: Digest,
    /// The sizes that manifests here state for the blob; empty if no manifest names it.
    pub(crate) named: Vec<u64>,
    pub(crate) limit: u64,
}

impl Download {
    /// Asks the upstream, and downloads in a task of its own. `done` is called with the download at its end, whether or
    /// not it succeeded.
    pub(crate) async fn start(
        errand: BlobFetch,
        done: impl FnOnce(&Self) + Send + 'static,
    ) -> Result<Self, Failure> {
        let (response, _) = errand.client.blob(&errand.remote, &errand.digest, 0).await?;
        // Clients learn the size before the first byte.
        let size = response.content_length();
        let size = size.ok_or_else(|| Failure::Wrong("a blob without a stated size".to_owned()))?;
        // An empty answer has no byte to hold back.
        if size == 0 && Digest::of_with(errand.digest.algorithm(), &[]) != errand.digest {
            return Err(Failure::Wrong("an empty blob".to_owned()));
        }
        if size > errand.limit {
            return Err(Failure::Wrong(format!("a blob of {size} bytes, more than {}", errand.limit)));
        }
        if let Some(named) = errand.named.first()
            && !errand.named.contains(&size)
        {
            let sentence = format!("a blob of {size} bytes where its manifest names {named}");
            return Err(Failure::Wrong(sentence));
        }
        let (blobs, algorithm) = (errand.store.blobs.clone(), errand.digest.algorithm());
        let opened = spawn_blocking(move || {
            let writer = blobs.writer_with(algorithm)?;
            let file = writer.reader()?;
            Ok::<_, hab_store::Error>((writer, file))
        });
        let (writer, file) = opened.await.map_err(lost)?.map_err(ours)?;
        let (tell, state) = watch::channel(State::default());
        let promised = Arc::new(Mutex::new(Some(Vec::new())));
        let this = Self { file: Arc::new(file), size, state, promised };
        let mine = this.clone();
        tokio::spawn(async move {
            let patience = &errand.client.config().patience;
            let most = patience.large + Duration::from_secs(size / patience.slowest.max(1));
            let ended = match timeout(most, fill(&errand, response, writer, &mine, &tell)).await {
                Ok(ended) => ended,
                Err(_) => Err(Failure::away(format!("the download took longer than {} s", most.as_secs()))),
            };
            if let Err(failure) = &ended {
                tracing::warn!(digest = %errand.digest, %failure, "a blob did not come from upstream");
            }
            // The order matters: a client that asks after this finds the stored blob, or starts a new download.
            done(&mine);
            tell.send_modify(|state| {
                if ended.is_ok() {
                    state.available = size;
                }
                state.ended = Some(ended);
            });
        });
        Ok(this)
    }

    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether both are the same download.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }

    /// Adds a repository that will hold the blob once it is stored; `false` if it is too late for that. The upstream
    /// must have said that this repository holds it.
    pub(crate) fn promise(&self, repository: &RepositoryName) -> bool {
        match &mut *locked(&self.promised) {
            Some(promised) => {
                promised.push(repository.clone());
                true
            }
            None => false,
        }
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.state.borrow().ended.is_some()
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        let ended = self.state.wait_for(|state| state.ended.is_some()).await;
        ended.map_err(lost)?.ended.clone().unwrap_or(Ok(()))
    }

    /// Waits until the byte at `at` is here.
    pub async fn reach(&self, at: u64) -> Result<(), Failure> {
        let mut state = self.state.clone();
        let next = |state: &State| state.available > at || state.ended.is_some();
        match &state.wait_for(next).await.map_err(lost)?.ended {
            Some(Err(failure)) => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// Streams `length` bytes of the blob from `first` on, as they come.
    pub fn part(self, first: u64, length: u64) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        let end = first.saturating_add(length).min(self.size);
        stream::try_unfold((self, first), move |(mut this, at)| async move {
            // Bytes after the end are not waited for.
            if at >= end {
                return Ok(None);
            }
            let available = {
                let next = |state: &State| state.available > at || state.ended.is_some();
                let state = this.state.wait_for(next).await.map_err(io::Error::other)?;
                if let Some(Err(failure)) = &state.ended {
                    return Err(io::Error::other(failure.clone()));
                }
                state.available
            };
            let (file, length) = (this.file.clone(), (available.min(end) - at).min(BATCH));
            let read = spawn_blocking(move || {
                let mut buffer = vec![0; usize::try_from(length).map_err(io::Error::other)?];
                file.read_exact_at(&mut buffer, at)?;
                Ok::<_, io::Error>(Bytes::from(buffer))
            });
            let bytes = read.await.map_err(io::Error::other)??;
            Ok(Some((bytes, (this, at + length))))
        })
    }
}

/// Receives the blob, resumes where it breaks off, checks and stores it.
async fn fill(
    errand: &BlobFetch,
    response: hab_outbound::Answer,
    mut writer: BlobWriter,
    download: &Download,
    tell: &watch::Sender<State>,
) -> Result<(), Failure> {
    let size = download.size;
    let mut response = Some(response);
    let mut attempt = 0;
    let mut resumed_at = 0;
    // Bytes that are here already and come again, because the upstream does not support ranges.
    let mut again = 0;
    while writer.size() < size {
        let chunk = match &mut response {
            Some(response) => {
                response.chunk().await.map_err(|e| tracing::debug!(error = story(&e), "a download broke off"))
            }
            None => Ok(None),
        };
        if let Ok(Some(mut bytes)) = chunk {
            let known = again.min(bytes.len() as u64);
            again -= known;
            drop(bytes.split_to(usize::try_from(known).unwrap_or(bytes.len())));
            if bytes.is_empty() {
                continue;
            }
            if writer.size() + bytes.len() as u64 > size {
                return Err(Failure::Wrong(format!("more than the stated {size} bytes")));
            }
            let written = spawn_blocking(move || writer.add(&bytes).map(|()| writer));
            writer = written.await.map_err(lost)?.map_err(|e| ours(e.into()))?;
            let available = writer.size().min(size - 1);
            tell.send_modify(|state| state.available = available);
            continue;
        }
        // The answer ended early, or broke off.
        if writer.size() >= resumed_at + PROGRESS {
            attempt = 0;
        }
        resumed_at = writer.size();
        attempt += 1;
        if attempt == ATTEMPTS {
            return Err(Failure::away(format!("the blob broke off after {} of {size} bytes", writer.size())));
        }
        tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
        response = match errand.client.blob(&errand.remote, &errand.digest, writer.size()).await {
            Ok((response, from)) => {
                again = writer.size() - from;
                Some(response)
            }
            Err(_) => None,
        };
    }
    let mut repositories = locked(&download.promised).take().unwrap_or_default();
    repositories.push(errand.local.clone());
    let upstream = errand.client.config().address();
    // The blob stays as long as something here needs it.
    match errand.store.keep_received(&repositories, writer, &errand.digest, &upstream, now()).await {
        Ok(_) => Ok(()),
        Err(e @ hab_store::Error::WrongDigest { .. }) => Err(Failure::Wrong(e.to_string())),
        Err(e) => Err(ours(e)),
    }
}

/// A failure of our own store: its details are only for the log.
#[allow(clippy::needless_pass_by_value)] // it is what `map_err` gives
fn ours(error: hab_store::Error) -> Failure {
    tracing::error!(error = story(&error), "a downloaded blob could not be stored");
    Failure::away("it could not be stored here")
}

fn lost<E: std::error::Error>(error: E) -> Failure {
    tracing::error!(%error, "a download's task ended early");
    Failure::away("the download's task ended early")
}
