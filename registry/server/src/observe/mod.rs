//! Monitoring: metrics for Prometheus (`metrics`), a line for each request (`access_log`), and whether the service is
//! alive and ready (`health`). `counted` counts the bytes of bodies. `record` follows a request to its end, and makes
//! its `entries` for the metrics and the log.

mod access_log;
mod counted;
mod entries;
mod health;
mod metrics;
mod record;

pub use access_log::AccessLog;
pub use metrics::Metrics;

pub(crate) use health::{Readiness, router};
pub(crate) use metrics::Storage;
pub(crate) use record::Observer;
