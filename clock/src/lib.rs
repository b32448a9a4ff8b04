//! The time, in unix seconds: as catalogs, journals and documents have it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970. A machine whose clock is before that has 0.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn it_is_after_this_was_written() {
        assert!(now() > 1_790_000_000);
    }
}
