//! The client for synchronous callers, who may stop waiting at any time.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::answer::Answer;
use crate::client::{Client, Request};
use crate::problem::{Cause, Problem};
use crate::settings::{BadSettings, Settings};

/// How often a wait checks whether the caller cancelled it.
const LOOK: Duration = Duration::from_millis(200);

/// A [`Client`] with a thread of its own. Asynchronous code must not use it: it would block the thread that it waits
/// for.
#[derive(Debug)]
pub struct Blocking {
    client: Client,
    /// `Some` until it is dropped.
    runtime: Option<Runtime>,
}

/// An answer that is read on the caller's thread: **unverified**.
#[derive(Debug)]
pub struct BlockingAnswer<'a> {
    answer: Answer,
    runtime: &'a Runtime,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// The operator's settings are wrong.
    #[error(transparent)]
    Settings(#[from] BadSettings),
    /// The system cannot start a thread.
    #[error("cannot start a thread for connections")]
    Thread(#[source] std::io::Error),
}

impl Blocking {
    /// Makes a client; sends nothing yet.
    pub fn new(settings: &Settings) -> Result<Self, NoClient> {
        let client = Client::new(settings)?;
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("outbound").enable_all();
        let runtime = builder.build().map_err(NoClient::Thread)?;
        Ok(Self { client, runtime: Some(runtime) })
    }

    /// Sends a request and waits for the answer, until `cancelled` says that nobody needs it any more.
    pub fn send(
        &self,
        request: &Request,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<BlockingAnswer<'_>, Problem> {
        let gone = || Problem::new(&request.url, Cause::Cancelled);
        let runtime = self.runtime.as_ref().ok_or_else(gone)?;
        let answer = wait(runtime, self.client.send(request), cancelled).ok_or_else(gone)??;
        Ok(BlockingAnswer { answer, runtime })
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait for a name that is still being resolved.
            runtime.shutdown_background();
        }
    }
}

impl BlockingAnswer<'_> {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.answer.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    /// The length of the body that the answer declares.
    pub fn content_length(&self) -> Option<u64> {
        self.answer.content_length()
    }

    /// The next piece of the body; `None` at its end.
    pub fn chunk(&mut self, cancelled: &dyn Fn() -> bool) -> Result<Option<Bytes>, Problem> {
        let url = self.answer.url().clone();
        let piece = wait(self.runtime, self.answer.chunk(), cancelled);
        piece.ok_or_else(|| Problem::new(&url, Cause::Cancelled))?
    }
}

/// Waits for `work`; `None` if the caller cancelled.
fn wait<T>(runtime: &Runtime, work: impl Future<Output = T>, cancelled: &dyn Fn() -> bool) -> Option<T> {
    runtime.block_on(async {
        let mut work = pin!(work);
        loop {
            match timeout(LOOK, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if cancelled() => return None,
                Err(_) => {}
            }
        }
    })
}
