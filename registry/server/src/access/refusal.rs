//! Why a request is not let through.

use std::time::Duration;

use hab_oci::RepositoryName;

use super::challenge::Problem;
use super::error::AccessError;
use super::rules::Action;

/// Why a request is not let through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The client must show credentials, or other ones.
    #[error("{problem}")]
    Unauthorized {
        /// The value of `WWW-Authenticate`.
        challenge: String,
        problem: Problem,
    },
    #[error("this account may not {} in {repository}", action.word())]
    Denied { repository: RepositoryName, action: Action },
    #[error("too many requests; try again in {} s", seconds(*wait))]
    TooMany { wait: Duration },
    /// No token could be made.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Whole seconds, at least one.
pub(crate) fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
}
