use std::io;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hab_mirror::KeepError;

/// Why a request gets no answer; only this file turns it into an HTTP status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("nothing is served under this address")]
    NotFound,
    #[error("this file is not mirrored here; `hab-build mirror` mirrors what a lock names")]
    NotKept,
    #[error(
        "{0} was never synced, so there is nothing of it here yet; on the farm, `hab-build mirror list` says why"
    )]
    NeverSynced(String),
    #[error("{0} has no policy, so nothing of it is verified; all of it is at /git/{0}.git")]
    NoView(String),
    #[error("{0}")]
    NothingShown(String),
    #[error("this suite is not mirrored; {}", suites(kept))]
    NoSuite { kept: Vec<String> },
    #[error("the Host header must say by which name this mirror is reached")]
    NoHost,
    #[error("this mirror is read-only")]
    ReadOnly,
    #[error("only git's smart HTTP protocol is spoken here; use a git client")]
    NotSmart,
    #[error("the request is not a valid git request: {0}")]
    Malformed(&'static str),
    #[error("the request has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the client took too long to send its request")]
    Stalled,
    #[error("too many clones are running; try again in a minute")]
    Busy,
    #[error("git could not be run")]
    Git(#[source] io::Error),
    #[error("the store could not be read")]
    Keep(#[from] KeepError),
    #[error("an internal task failed")]
    Task(#[from] tokio::task::JoinError),
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NotFound
            | Self::NotKept
            | Self::NoSuite { .. }
            | Self::NeverSynced(_)
            | Self::NoView(_)
            | Self::NothingShown(_) => StatusCode::NOT_FOUND,
            Self::ReadOnly | Self::NotSmart => StatusCode::FORBIDDEN,
            Self::Malformed(_) | Self::NoHost => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Git(_) | Self::Keep(_) | Self::Task(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            let source = std::error::Error::source(&self).map(ToString::to_string);
            tracing::error!(error = %self, source, "a request was not answered");
        }
        let mut response = (status, format!("{self}\n")).into_response();
        if matches!(self, Self::Busy) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        response
    }
}

fn suites(kept: &[String]) -> String {
    if kept.is_empty() { "no suite is".to_owned() } else { format!("these are: {}", kept.join(", ")) }
}
