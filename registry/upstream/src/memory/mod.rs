//! The running requests and remembered answers of an upstream. All of it is bounded, and lost with the process.

mod absent;
mod downloads;
mod look_ups;
mod referrers;
mod sizes;
mod tags;

pub(crate) use absent::Absent;
pub(crate) use downloads::Downloads;
pub(crate) use look_ups::{LookUps, Looking};
pub(crate) use referrers::ReferrerLists;
pub(crate) use sizes::Sizes;
pub(crate) use tags::TagLists;

/// Locks a mutex even after a panic: no panic while one of these is held leaves half a map operation behind.
pub(crate) fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
