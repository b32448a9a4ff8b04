//! How long to wait before the next try.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The longest wait after failures, in seconds.
const LONGEST: i64 = 24 * 3600;

/// Seconds to wait after a try at the time `tried`: `interval`, doubled for every failure since the last success, up to
/// a day. Adds up to a tenth, chosen by `name` and `tried`, so that not all tries come at once.
pub fn wait(name: &str, tried: i64, interval: i64, failures: u32) -> i64 {
    let wait = interval.saturating_mul(1 << failures.min(16)).min(LONGEST.max(interval));
    let mut hasher = DefaultHasher::new();
    (name, tried).hash(&mut hasher);
    let jitter = (wait / 10).max(1);
    wait + i64::try_from(hasher.finish() % jitter.unsigned_abs()).unwrap_or(0)
}
