//! Why a request is not let through.

use std::time::Duration;

use hab_oci::RepositoryName;

use super::challenge::Problem;
use super::error::AccessError;
use super::rules::Action;

/// Why a request is not let through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Something has to be shown, or something else.
    #[error("{problem}")]
    Unauthorized {
        /// What `WWW-Authenticate` says.
        challenge: String,
        problem: Problem,
    },
    #[error("this account may not {} in {repository}", action.word())]
    Denied { repository: RepositoryName, action: Action },
    #[error("too many requests; the next may come in {} s", seconds(*wait))]
    TooMany { wait: Duration },
    /// No token could be made.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Whole seconds, at least one.
pub(crate) fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
}
