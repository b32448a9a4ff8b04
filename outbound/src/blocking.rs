//! The same for synchronous callers, who may stop to wait at any time.

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

/// How often it is asked whether the answer is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// A [`Client`] with a thread of its own. It must not be asked from within asynchronous code, which would wait for
/// itself.
#[derive(Debug)]
pub struct Blocking {
    client: Client,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

/// An answer that is read on the caller's thread: **unverified**.
#[derive(Debug)]
pub struct BlockingAnswer<'a> {
    answer: Answer,
    runtime: &'a Runtime,
}

/// Why there is nobody to ask through.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// What the operator said.
    #[error(transparent)]
    Settings(#[from] BadSettings),
    /// The system gives no thread.
    #[error("no thread can be started for connections")]
    Thread(#[source] std::io::Error),
}

impl Blocking {
    /// Prepares to ask; nothing is asked yet.
    pub fn new(settings: &Settings) -> Result<Self, NoClient> {
        let client = Client::new(settings)?;
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("outbound").enable_all();
        let runtime = builder.build().map_err(NoClient::Thread)?;
        Ok(Self { client, runtime: Some(runtime) })
    }

    /// The answer to a request, unless `cancelled` says that nobody waits for it any more.
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
            // A name that is still being resolved is not waited for.
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

    /// How many bytes it says that it has.
    pub fn content_length(&self) -> Option<u64> {
        self.answer.content_length()
    }

    /// The next piece; `None` at the end.
    pub fn chunk(&mut self, cancelled: &dyn Fn() -> bool) -> Result<Option<Bytes>, Problem> {
        let url = self.answer.url().clone();
        let piece = wait(self.runtime, self.answer.chunk(), cancelled);
        piece.ok_or_else(|| Problem::new(&url, Cause::Cancelled))?
    }
}

/// `None`: it was not waited for to its end.
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
