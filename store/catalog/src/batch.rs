//! One run of some work serves every caller that asked before it began.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Runs one piece of work at a time for any number of callers. Callers that ask during a run share the next one. A
/// caller's result always comes from a run that began after the caller asked.
#[derive(Debug, Default)]
pub(crate) struct Batch<T> {
    asked: AtomicU64,
    /// Guards the last result and the number of the last caller that it serves. Held while the work runs, so that other
    /// callers wait here.
    last: Mutex<(u64, Option<T>)>,
}

impl<T: Clone> Batch<T> {
    pub(crate) async fn run<E>(&self, work: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        if let (served, Some(result)) = &*last
            && *served >= mine
        {
            return Ok(result.clone());
        }
        let served = self.asked.load(Ordering::SeqCst);
        let result = work().await?;
        *last = (served, Some(result.clone()));
        Ok(result)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn those_who_ask_while_it_runs_share_the_next_run_and_get_no_older_result() {
        let batch = Arc::new(Batch::default());
        let (runs, may_end) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (batch, runs, may_end) = (batch.clone(), runs.clone(), may_end.clone());
            tokio::spawn(async move {
                let work = async || {
                    let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                    may_end.acquire().await.unwrap().forget();
                    Ok::<_, ()>(run)
                };
                batch.run(work).await.unwrap()
            })
        };
        let first = ask();
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..9).map(|_| ask()).collect();
        while batch.asked.load(Ordering::SeqCst) < 10 {
            tokio::task::yield_now().await;
        }
        may_end.add_permits(2);
        assert_eq!(first.await.unwrap(), 1);
        for other in others {
            assert_eq!(other.await.unwrap(), 2);
        }
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }
}
