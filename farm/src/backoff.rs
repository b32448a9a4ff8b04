//! When to try again.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The longest wait after failures, in seconds.
const LONGEST: i64 = 24 * 3600;

/// Seconds to wait after a try at `tried`: its interval, doubled for every failure since it last succeeded up to a day,
/// and up to a tenth longer, by its name, so that not all come at once.
pub fn wait(name: &str, tried: i64, interval: i64, failures: u32) -> i64 {
    let wait = interval.saturating_mul(1 << failures.min(16)).min(LONGEST.max(interval));
    let mut hasher = DefaultHasher::new();
    (name, tried).hash(&mut hasher);
    let jitter = (wait / 10).max(1);
    wait + i64::try_from(hasher.finish() % jitter.unsigned_abs()).unwrap_or(0)
}
