//! A few threads that hash for writers. They live as long as the process: starting a thread for each batch of bytes
//! would cost more than it saves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

/// The most threads that are of use: each one hashes as fast as a disk writes.
const MOST: usize = 4;

type Work = Box<dyn FnOnce() + Send>;

struct Helpers {
    /// How many threads are idle and have no work queued for them.
    idle: Arc<AtomicUsize>,
    work: Sender<Work>,
}

static HELPERS: OnceLock<Helpers> = OnceLock::new();

/// Has an idle thread do the work. Returns the work if no thread is idle; its caller then does it just as fast.
pub(crate) fn lend<F: FnOnce() + Send + 'static>(work: F) -> Result<(), F> {
    let helpers = HELPERS.get_or_init(begin);
    let one_less = |idle: usize| idle.checked_sub(1);
    if helpers.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
        return Err(work);
    }
    // The receivers live as long as the process, so this cannot fail. If work were lost all the same, its caller would
    // notice: its channel would close.
    let _ = helpers.work.send(Box::new(work));
    Ok(())
}

fn begin() -> Helpers {
    let (work, queue) = channel();
    let queue = Arc::new(Mutex::new(queue));
    let idle = Arc::new(AtomicUsize::new(0));
    // On a single processor a second thread saves no time.
    let count =
        thread::available_parallelism().map_or(0, |cores| if cores.get() > 1 { cores.get() } else { 0 });
    for _ in 0..count.min(MOST) {
        let (queue, counter) = (queue.clone(), idle.clone());
        let begun = thread::Builder::new().name("hash".to_owned()).spawn(move || help(&queue, &counter));
        idle.fetch_add(usize::from(begun.is_ok()), Ordering::Relaxed);
    }
    Helpers { idle, work }
}

fn help(queue: &Mutex<Receiver<Work>>, idle: &AtomicUsize) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        work();
        idle.fetch_add(1, Ordering::Relaxed);
    }
}
