//! The one way from synchronous code to the store's asynchronous calls. The program owns the runtime.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::error::FarmError;

/// How often to check whether the person asked to stop.
const TICK: Duration = Duration::from_millis(100);

/// A handle on the program's runtime. The runtime must outlive the handle.
#[derive(Clone, Debug)]
pub struct Bridge(Handle);

impl Bridge {
    /// Makes a bridge to this runtime, which needs more than one thread, because one of them may wait here.
    pub fn new(runtime: &Handle) -> Self {
        Self(runtime.clone())
    }

    /// Waits for asynchronous work. Asynchronous code must not call it, because it would block its own thread.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.block_on(work)
    }

    /// Runs asynchronous work beside everything else.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.0.spawn(work)
    }

    /// Waits for work until it ends or `cancel` is set. The error after a cancellation says `after`, the state that is
    /// left. It must be safe to drop the unfinished work.
    pub fn wait_unless<T, E: Into<FarmError>>(
        &self,
        cancel: &AtomicBool,
        after: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, FarmError> {
        let cancelled = async {
            while !cancel.load(Ordering::Relaxed) {
                tokio::time::sleep(TICK).await;
            }
        };
        self.wait(async {
            tokio::select! {
                done = work => done.map_err(Into::into),
                () = cancelled => Err(FarmError::Stopped(after)),
            }
        })
    }
}
