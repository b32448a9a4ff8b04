//! Carries the mirror to a place without a network: `hab-build mirror export` and `import`.

pub mod aside;
pub mod export;
pub mod import;
mod names;

use std::path::Path;
use std::sync::atomic::Ordering;

use crate::progress::Progress;

/// Reports how far a file is read or written. Returns `false` if the person asked to stop.
fn goes_on(progress: &dyn Progress, file: &Path, done: u64, total: Option<u64>) -> bool {
    progress.amount(&file.display().to_string(), done, total);
    !progress.cancel().load(Ordering::Relaxed)
}
