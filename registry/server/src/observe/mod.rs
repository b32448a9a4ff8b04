//! What is seen from outside: numbers for Prometheus (`metrics`), a line for each request (`access_log`), and whether
//! the service is alive and ready (`health`). A body tells how much of it went by when it is over (`counted`); what is
//! said of each request then are `entries`, which `record` makes.

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
