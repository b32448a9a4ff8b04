//! To a place without a network and in from there: `hab-build mirror export` and `import`.

mod export;
mod import;
mod names;

use std::path::Path;

pub use import::{Taken, Wanted};

use super::Farm;

impl Farm {
    /// Shows how far it is; `false` when the person asked to stop.
    fn carrying(&self, file: &Path, done: u64, total: Option<u64>) -> bool {
        self.progress.amount(&file.display().to_string(), done, total);
        !self.progress.cancel().load(std::sync::atomic::Ordering::Relaxed)
    }
}
