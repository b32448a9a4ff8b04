//! What carrying images in and out tells a person.

use std::sync::atomic::Ordering;

use crate::error::FarmError;
use crate::progress::Progress;
use crate::words::counted;

/// Turns a failure into a stop, if the person asked to stop. `after` says what state is left.
pub fn stopped_or<T, E: Into<FarmError>>(
    progress: &dyn Progress,
    done: Result<T, E>,
    after: &'static str,
) -> Result<T, FarmError> {
    let stopped = progress.cancel().load(Ordering::Relaxed);
    done.map_err(|e| if stopped { FarmError::Stopped(after) } else { e.into() })
}

/// The numbers of tags, manifests, blobs and bytes, for people.
pub fn amounts(tags: usize, manifests: usize, blobs: usize, bytes: u64) -> String {
    let count = |number: usize, thing: &str| counted(number as u64, thing);
    format!(
        "{}, {}, {}, {}",
        count(tags, "tag"),
        count(manifests, "manifest"),
        count(blobs, "blob"),
        counted(bytes, "byte")
    )
}
