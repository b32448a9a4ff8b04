//! Kept files under the names that their clients know them by.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hab_mirror::{debian, kinds};
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

/// What apt asks for. An index is the one beside the InRelease that is served now, whatever was kept since.
pub(crate) async fn debian(
    State(mirror): State<Mirror>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let keep = mirror.keep.clone();
    let find = move || {
        let Some(rest) = path.strip_prefix("dists/") else { return keep.latest(kinds::DEBIAN_POOL, &path) };
        if let Some(found) = keep.latest(kinds::DEBIAN_INDEX, &path)? {
            return Ok(Some(found));
        }
        let suite = rest.split('/').next().unwrap_or_default();
        match keep.latest(kinds::DEBIAN_INDEX, &debian::in_release(suite))? {
            Some(release) => keep.latest(kinds::DEBIAN_INDEX, &debian::beside(&path, &release)),
            None => Ok(None),
        }
    };
    let found = tokio::task::spawn_blocking(find).await??;
    kept(&mirror, found.ok_or(Error::NotKept)?, request).await
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
pub(crate) async fn kept(mirror: &Mirror, digest: Digest, mut request: Request) -> Result<Response, Error> {
    let keep = mirror.keep.clone();
    let tag = tag(&digest)?;
    let path = tokio::task::spawn_blocking(move || keep.path(&digest)).await??.ok_or(Error::NotFound)?;
    if has(request.headers(), &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let headers = request.headers_mut();
    // A range of other bytes than these would be spliced with them.
    if headers.get(header::IF_RANGE).is_some_and(|wanted| *wanted != tag) {
        headers.remove(header::RANGE);
    }
    // The file's own date says when it was mirrored, which is no date of what it holds: nothing may depend on it.
    for name in [
        header::IF_NONE_MATCH,
        header::IF_MATCH,
        header::IF_RANGE,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
    ] {
        headers.remove(name);
    }
    let served = ServeFile::new(path).oneshot(request).await;
    // Its error type has no values.
    let mut response = served.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.remove(header::LAST_MODIFIED);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

/// The entity tag of these bytes.
pub(crate) fn tag(digest: &Digest) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(&format!("\"{digest}\"")).map_err(|_| Error::NotFound)
}

/// Whether a client says that it has what `tag` names already (RFC 9110, section 13.1.2).
pub(crate) fn has(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let said = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    said.flat_map(|value| value.split(',')).any(|one| one.trim().trim_start_matches("W/") == *tag)
}
