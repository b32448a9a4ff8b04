//! Who counts requests to upstreams.

use std::fmt;

/// Counts what came of requests to upstreams.
pub trait Count: fmt::Debug + Send + Sync {
    /// An upstream was asked; `result`: `ok`, `absent`, `limited` (it limits how often it is asked, or errs), `away`,
    /// `denied` (it does not let us in) or `wrong` (what it sent was refused).
    fn asked(&self, upstream: &str, result: &'static str);
}
