//! Parts of requests and answers that several endpoints share.

use axum::extract::Query;
use axum::http::{HeaderName, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;

use crate::error::Error;

/// `Docker-Content-Digest`.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The header that says where an answer of an upstream's repository came from: `hit`, `miss` or `stale`.
pub(crate) const CACHE: HeaderName = HeaderName::from_static("x-hab-cache");

/// The query of a request, percent-decoded.
pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Error> {
    Query::try_from_uri(uri).map(|Query(query)| query).map_err(|_| Error::Query)
}

/// A response without a body.
pub(crate) fn empty<const N: usize>(status: StatusCode, headers: [(HeaderName, String); N]) -> Response {
    (status, headers, ()).into_response()
}
