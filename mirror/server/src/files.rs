//! Kept files under the names that their clients know them by.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use hab_mirror::kinds;
use hab_oci::Digest;
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

use crate::Mirror;
use crate::error::Error;

pub(crate) async fn depends_source(
    State(mirror): State<Mirror>,
    Path(file): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    named(mirror, kinds::DEPENDS_SOURCE, file, request).await
}

pub(crate) async fn release(
    State(mirror): State<Mirror>,
    Path((project, version, file)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Error> {
    named(mirror, kinds::RELEASE_FILE, format!("{project}/{version}/{file}"), request).await
}

pub(crate) async fn plain(
    State(mirror): State<Mirror>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    named(mirror, kinds::PLAIN_FILE, name, request).await
}

/// The newest bytes that are kept under a name of this kind.
pub(crate) async fn named(
    mirror: Mirror,
    kind: &'static str,
    name: String,
    request: Request,
) -> Result<Response, Error> {
    let keep = mirror.keep.clone();
    let found = tokio::task::spawn_blocking(move || keep.latest(kind, &name)).await??;
    kept(&mirror, found.ok_or(Error::NotFound)?, request).await
}

/// Kept bytes: whole, or the range that was asked for (RFC 9110, section 14).
pub(crate) async fn kept(mirror: &Mirror, digest: Digest, request: Request) -> Result<Response, Error> {
    let keep = mirror.keep.clone();
    let tag = HeaderValue::from_str(&format!("\"{digest}\"")).map_err(|_| Error::NotFound)?;
    let path = tokio::task::spawn_blocking(move || keep.path(&digest)).await??.ok_or(Error::NotFound)?;
    let served = ServeFile::new(path).oneshot(request).await;
    // Its error type has no values.
    let mut response = served.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    // The file's own date says when it was mirrored, which is no date of what it holds.
    headers.remove(header::LAST_MODIFIED);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}
