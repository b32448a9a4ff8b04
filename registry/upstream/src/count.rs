//! The interface that counts requests to upstreams.

use std::fmt;

/// Counts requests to upstreams by their result.
pub trait Count: fmt::Debug + Send + Sync {
    /// Counts a request to an upstream; `result`: `ok`, `absent`, `limited` (it limits how often it is asked, or has an
    /// error of its own), `away`, `denied` (it refuses our credentials) or `wrong` (its answer was refused here).
    fn asked(&self, upstream: &str, result: &'static str);
}
