//! A few threads that hash for whoever writes. They live as long as the process: one that begins for each batch of bytes would
//! cost more than it saves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

/// More than this are never of use: each of them hashes as fast as a disk writes.
const MOST: usize = 4;

type Work = Box<dyn FnOnce() + Send>;

struct Helpers {
    /// How many wait for work that nobody has promised to them yet.
    idle: Arc<AtomicUsize>,
    work: Sender<Work>,
}

static HELPERS: OnceLock<Helpers> = OnceLock::new();

/// Has an idle thread do this; gives it back where there is none. Then its caller is as fast as anybody.
pub(crate) fn lend<F: FnOnce() + Send + 'static>(work: F) -> Result<(), F> {
    let helpers = HELPERS.get_or_init(begin);
    let one_less = |idle: usize| idle.checked_sub(1);
    if helpers.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
        return Err(work);
    }
    // The receivers never go, so neither does the channel; what is lost all the same is missed by who waits for it.
    let _ = helpers.work.send(Box::new(work));
    Ok(())
}

fn begin() -> Helpers {
    let (work, queue) = channel();
    let queue = Arc::new(Mutex::new(queue));
    let idle = Arc::new(AtomicUsize::new(0));
    // With a single processor there is nothing to be won.
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
