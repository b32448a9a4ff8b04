//! Everything that can go wrong with a request, and the one place where it becomes a status and a body.

use std::error::Error as StdError;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hab_oci::{Digest, DigestError, OutlineError, ReferenceError, RepositoryName};
use hab_store::Error as StoreError;
use hab_upstream::Error as UpstreamError;
use serde::Serialize;

use crate::access::{Refusal, seconds};
use hab_chain::chain;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no such endpoint")]
    NoEndpoint,
    #[error("this endpoint does not support this method; it supports {0}")]
    Method(&'static str),
    #[error("this registry is read-only")]
    ReadOnly,
    #[error(transparent)]
    Name(ReferenceError),
    #[error(transparent)]
    Tag(ReferenceError),
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error("the query has no digest")]
    NoDigest,
    #[error("n has to be a number")]
    PageSize,
    #[error("cannot parse the query string")]
    Query,
    #[error("there is no repository {0}")]
    NameUnknown(RepositoryName),
    #[error("{repository} has no manifest {reference}")]
    ManifestUnknown { repository: RepositoryName, reference: String },
    #[error("{repository} has no blob {digest}")]
    BlobUnknown { repository: RepositoryName, digest: Digest },
    #[error("a manifest may have at most {limit} bytes")]
    ManifestTooLarge { limit: usize },
    #[error("neither the request nor the manifest names the manifest's media type")]
    NoMediaType,
    #[error("a push by tag sets only that tag; push by digest to set several")]
    TagsOfTag,
    #[error("a push may have at most {limit} tags")]
    TooManyTags { limit: usize },
    #[error("a blob may have at most {limit} bytes")]
    BlobTooLarge { limit: u64 },
    #[error("the stored content does not meet the request's If-Match or If-None-Match")]
    Precondition,
    #[error("the blob has {size} bytes, and none of them are in the range")]
    RangeNotSatisfiable { size: u64 },
    #[error("there is no such upload")]
    UploadUnknown,
    #[error("Content-Range has to be first-last, in bytes")]
    UploadRange,
    #[error("the upload has {size} bytes: the next chunk must start there")]
    UploadOrder { location: String, size: u64 },
    #[error("{said} bytes were announced, and {came} came")]
    SizeMismatch { said: u64, came: u64 },
    #[error("the request's body broke off before its end")]
    BodyBroken(#[source] axum::Error),
    #[error("the client sent the request's body too slowly")]
    Stalled,
    #[error(transparent)]
    Upstream(UpstreamError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("a form may have at most {limit} bytes")]
    FormTooLarge { limit: usize },
    #[error("grant_type has to be password or refresh_token")]
    GrantType,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a thread of the registry ended early")]
    Worker(#[from] tokio::task::JoinError),
}

impl From<hab_blobs::Error> for Error {
    fn from(error: hab_blobs::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Codes of the distribution specification, "Error Codes"; two that other registries use where it has none; and one for
/// status 412 of RFC 9110.
mod code {
    pub(super) const BLOB_UNKNOWN: &str = "BLOB_UNKNOWN";
    pub(super) const BLOB_UPLOAD_INVALID: &str = "BLOB_UPLOAD_INVALID";
    pub(super) const BLOB_UPLOAD_UNKNOWN: &str = "BLOB_UPLOAD_UNKNOWN";
    pub(super) const DIGEST_INVALID: &str = "DIGEST_INVALID";
    pub(super) const MANIFEST_BLOB_UNKNOWN: &str = "MANIFEST_BLOB_UNKNOWN";
    pub(super) const MANIFEST_INVALID: &str = "MANIFEST_INVALID";
    pub(super) const MANIFEST_UNKNOWN: &str = "MANIFEST_UNKNOWN";
    pub(super) const NAME_INVALID: &str = "NAME_INVALID";
    pub(super) const NAME_UNKNOWN: &str = "NAME_UNKNOWN";
    pub(super) const SIZE_INVALID: &str = "SIZE_INVALID";
    pub(super) const DENIED: &str = "DENIED";
    pub(super) const UNAUTHORIZED: &str = "UNAUTHORIZED";
    pub(super) const TOOMANYREQUESTS: &str = "TOOMANYREQUESTS";
    pub(super) const UNSUPPORTED: &str = "UNSUPPORTED";
    pub(super) const PRECONDITION_FAILED: &str = "PRECONDITION_FAILED";
    pub(super) const PAGINATION_NUMBER_INVALID: &str = "PAGINATION_NUMBER_INVALID";
    pub(super) const UNKNOWN: &str = "UNKNOWN";
}

impl Error {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::NoEndpoint => (S::NOT_FOUND, code::UNSUPPORTED),
            Self::Method(_) => (S::METHOD_NOT_ALLOWED, code::UNSUPPORTED),
            Self::ReadOnly => (S::METHOD_NOT_ALLOWED, code::DENIED),
            Self::Name(_) => (S::BAD_REQUEST, code::NAME_INVALID),
            Self::TooManyTags { .. } => (S::URI_TOO_LONG, code::MANIFEST_INVALID),
            Self::Tag(_) | Self::NoMediaType | Self::TagsOfTag => (S::BAD_REQUEST, code::MANIFEST_INVALID),
            Self::Digest(_) | Self::NoDigest => (S::BAD_REQUEST, code::DIGEST_INVALID),
            Self::PageSize => (S::BAD_REQUEST, code::PAGINATION_NUMBER_INVALID),
            Self::Query | Self::GrantType => (S::BAD_REQUEST, code::UNSUPPORTED),
            Self::NameUnknown(_) => (S::NOT_FOUND, code::NAME_UNKNOWN),
            Self::ManifestUnknown { .. } => (S::NOT_FOUND, code::MANIFEST_UNKNOWN),
            Self::BlobUnknown { .. } => (S::NOT_FOUND, code::BLOB_UNKNOWN),
            Self::ManifestTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, code::MANIFEST_INVALID),
            Self::BlobTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, code::SIZE_INVALID),
            Self::Precondition => (S::PRECONDITION_FAILED, code::PRECONDITION_FAILED),
            Self::RangeNotSatisfiable { .. } => (S::RANGE_NOT_SATISFIABLE, code::SIZE_INVALID),
            Self::UploadUnknown => (S::NOT_FOUND, code::BLOB_UPLOAD_UNKNOWN),
            Self::UploadRange => (S::BAD_REQUEST, code::BLOB_UPLOAD_INVALID),
            Self::UploadOrder { .. } => (S::RANGE_NOT_SATISFIABLE, code::BLOB_UPLOAD_INVALID),
            Self::SizeMismatch { .. } | Self::BodyBroken(_) => (S::BAD_REQUEST, code::SIZE_INVALID),
            Self::Stalled => (S::REQUEST_TIMEOUT, code::BLOB_UPLOAD_INVALID),
            Self::Upstream(error) => Self::of_upstream(error),
            Self::Refused(refusal) => Self::of_refusal(refusal),
            Self::FormTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, code::UNSUPPORTED),
            Self::Store(error) => Self::of_store(error),
            Self::Worker(_) => (S::INTERNAL_SERVER_ERROR, code::UNKNOWN),
        }
    }

    fn of_refusal(refusal: &Refusal) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match refusal {
            Refusal::Unauthorized { .. } => (S::UNAUTHORIZED, code::UNAUTHORIZED),
            Refusal::Denied { .. } => (S::FORBIDDEN, code::DENIED),
            Refusal::TooMany { .. } => (S::TOO_MANY_REQUESTS, code::TOOMANYREQUESTS),
            Refusal::Access(_) => (S::INTERNAL_SERVER_ERROR, code::UNKNOWN),
        }
    }

    fn of_upstream(error: &UpstreamError) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match error {
            UpstreamError::Name(_) => (S::BAD_REQUEST, code::NAME_INVALID),
            UpstreamError::NameUnknown(_) => (S::NOT_FOUND, code::NAME_UNKNOWN),
            UpstreamError::ManifestUnknown { .. } => (S::NOT_FOUND, code::MANIFEST_UNKNOWN),
            UpstreamError::BlobUnknown { .. } => (S::NOT_FOUND, code::BLOB_UNKNOWN),
            UpstreamError::NotAllowed(_) | UpstreamError::DigestOnly(_) | UpstreamError::NotSigned { .. } => {
                (S::FORBIDDEN, code::DENIED)
            }
            UpstreamError::Failed { .. } => (S::BAD_GATEWAY, code::UNKNOWN),
            UpstreamError::Store(error) => Self::of_store(error),
        }
    }

    fn of_store(error: &StoreError) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match error {
            StoreError::WrongDigest { .. } => (S::BAD_REQUEST, code::DIGEST_INVALID),
            StoreError::WrongSize { .. } => (S::BAD_REQUEST, code::SIZE_INVALID),
            StoreError::Missing { .. } | StoreError::NotStored { .. } => {
                (S::BAD_REQUEST, code::MANIFEST_BLOB_UNKNOWN)
            }
            StoreError::Manifest { source, .. } => match source {
                OutlineError::MediaType(_)
                | OutlineError::Json(_)
                | OutlineError::SchemaVersion(_)
                | OutlineError::Disagreement { .. }
                | OutlineError::Ambiguous
                | OutlineError::NoConfig
                | OutlineError::LargeConfig(_)
                | OutlineError::Embedded { .. } => (S::BAD_REQUEST, code::MANIFEST_INVALID),
            },
            StoreError::NoRoot(_) | StoreError::Configuration { .. } => {
                (S::BAD_REQUEST, code::MANIFEST_INVALID)
            }
            StoreError::InUse { .. } => (S::METHOD_NOT_ALLOWED, code::UNSUPPORTED),
            // Other registries answer 400, 403, 409 or 412 here. It is a conflict, so 409; and clients give up on
            // DENIED at once.
            StoreError::Immutable { .. } => (S::CONFLICT, code::DENIED),
            StoreError::Unexpected { .. } => (S::PRECONDITION_FAILED, code::PRECONDITION_FAILED),
            StoreError::NeverThere { .. } | StoreError::NotHeld { .. } => {
                (S::NOT_FOUND, code::MANIFEST_UNKNOWN)
            }
            StoreError::UploadUnknown(_) => (S::NOT_FOUND, code::BLOB_UPLOAD_UNKNOWN),
            StoreError::UploadBusy(_) => (S::CONFLICT, code::BLOB_UPLOAD_INVALID),
            StoreError::NoSpace { .. } => (S::INSUFFICIENT_STORAGE, code::UNKNOWN),
            // `TooLarge` is no client's fault: content beyond a limit came here before the limit was set.
            StoreError::TooLarge { .. }
            | StoreError::Collecting
            | StoreError::Io { .. }
            | StoreError::Damaged { .. }
            | StoreError::Mismatch { .. }
            | StoreError::InUseElsewhere { .. }
            | StoreError::CatalogDamaged { .. }
            | StoreError::Copy { .. }
            | StoreError::NoCopy { .. }
            | StoreError::Newer { .. }
            | StoreError::Migrate { .. }
            | StoreError::Database { .. }
            | StoreError::Nonsense { .. }
            | StoreError::Worker(_) => (S::INTERNAL_SERVER_ERROR, code::UNKNOWN),
        }
    }

    /// The message and the detail for the client. Our own faults name paths, so they go to the log instead.
    fn words(&self, status: StatusCode) -> (String, Option<String>) {
        if status == StatusCode::INSUFFICIENT_STORAGE {
            return ("the registry's disk is full".to_owned(), None);
        }
        if let Self::Upstream(UpstreamError::Failed { failure, .. }) = self {
            return (format!("{self}: {}", failure.outside()), None);
        }
        if status.is_server_error() {
            return ("the registry failed; its log says why".to_owned(), None);
        }
        (self.to_string(), self.source().map(chain))
    }
}

#[derive(Serialize)]
struct ErrorBody {
    errors: [ErrorEntry; 1],
}

#[derive(Serialize)]
struct ErrorEntry {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        if status.is_server_error() {
            tracing::error!(status = status.as_u16(), error = self.sentence(), "a request failed");
        }
        let (message, detail) = self.words(status);
        let mut response = (status, axum::Json(ErrorBody { errors: [ErrorEntry { code, message, detail }] }))
            .into_response();
        let headers = response.headers_mut();
        // All of these consist of digits, names, checked addresses and fixed words, so they are valid header values.
        let mut put =
            |name, text: String| HeaderValue::try_from(text).map(|value| headers.insert(name, value));
        let _ = match self {
            Self::Method(allow) => put(header::ALLOW, allow.to_owned()),
            Self::ReadOnly | Self::Store(StoreError::InUse { .. }) => {
                put(header::ALLOW, "GET, HEAD".to_owned())
            }
            Self::Refused(Refusal::Unauthorized { challenge, .. }) => {
                put(header::WWW_AUTHENTICATE, challenge)
            }
            Self::Refused(Refusal::TooMany { wait }) => put(header::RETRY_AFTER, seconds(wait).to_string()),
            Self::RangeNotSatisfiable { size } => put(header::CONTENT_RANGE, format!("bytes */{size}")),
            Self::UploadOrder { location, size } => {
                put(header::LOCATION, location).and_then(|_| put(header::RANGE, crate::range::held(size)))
            }
            _ => Ok(None),
        };
        response
    }
}

/// An error of the store stays one, also if it came by an upstream.
impl From<UpstreamError> for Error {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Store(error) => Self::Store(error),
            other => Self::Upstream(other),
        }
    }
}

impl Error {
    /// The error and its causes on one line, for the log.
    fn sentence(&self) -> String {
        match self {
            Self::Upstream(error) => error.sentence(),
            other => chain(other),
        }
    }
}
