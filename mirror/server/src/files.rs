//! Serves mirrored files under the names that clients know them by.

use std::io::Read as _;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hab_mirror::{Keep, KeepError, debian, kinds};
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

/// Serves a Debian archive to apt. An index is the one that belongs to the InRelease that is served now, even if a
/// newer one was mirrored since. apt sends no entity tags, so the date in the InRelease is the date of the whole suite,
/// and an unchanged suite is not sent again.
pub(crate) async fn debian(
    State(mirror): State<Mirror>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let keep = mirror.keep.clone();
    let find = move || {
        let Some(rest) = path.strip_prefix("dists/") else {
            let found = keep.latest(kinds::DEBIAN_POOL, &path)?;
            return Ok((found.ok_or(Error::NotKept)?, None));
        };
        let suite = rest.split('/').next().unwrap_or_default();
        let Some(release) = keep.latest(kinds::DEBIAN_INDEX, &debian::in_release(suite))? else {
            return Err(Error::NoSuite { kept: suites(keep.as_ref())? });
        };
        let found = match keep.latest(kinds::DEBIAN_INDEX, &path)? {
            Some(found) => Some(found),
            None => keep.latest(kinds::DEBIAN_INDEX, &debian::beside(&path, &release))?,
        };
        Ok((found.ok_or(Error::NotKept)?, date(keep.as_ref(), &release)?))
    };
    let (found, date) = tokio::task::spawn_blocking(find).await??;
    if let Some(date) = &date
        && !request.headers().contains_key(header::IF_NONE_MATCH)
        && request.headers().get(header::IF_MODIFIED_SINCE) == Some(date)
    {
        let headers = [(header::ETAG, tag(&found)?), (header::LAST_MODIFIED, date.clone())];
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let mut response = kept(&mirror, found, request).await?;
    if let Some(date) = date {
        response.headers_mut().insert(header::LAST_MODIFIED, date);
    }
    Ok(response)
}

/// The mirrored suites of the Debian archive, by name.
pub(crate) fn suites(keep: &dyn Keep) -> Result<Vec<String>, KeepError> {
    let names = keep.names_below(kinds::DEBIAN_INDEX, "dists/")?.into_iter();
    let suite = |name: &str| Some(name.strip_prefix("dists/")?.strip_suffix("/InRelease")?.to_owned());
    let mut suites: Vec<String> = names.filter_map(|kept| suite(&kept.name)).collect();
    suites.sort();
    Ok(suites)
}

/// The date in an InRelease (Debian repository format, "Date, Valid-Until"), in HTTP's form; `None` if it cannot be
/// parsed.
fn date(keep: &dyn Keep, release: &Digest) -> Result<Option<HeaderValue>, Error> {
    /// The bytes to read: the date comes before the lists.
    const HEAD: u64 = 16 << 10;
    let Some(file) = keep.open(release)? else { return Ok(None) };
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head).map_err(|e| KeepError::Store(Box::new(e)))?;
    let head = String::from_utf8_lossy(&head);
    let said = head.lines().find_map(|line| line.strip_prefix("Date:")).map(str::trim);
    let zone = |said: &str| {
        said.strip_suffix("UTC").or_else(|| said.strip_suffix("+0000")).map(|at| format!("{at}GMT"))
    };
    let date = said.and_then(|said| httpdate::parse_http_date(zone(said).as_deref().unwrap_or(said)).ok());
    Ok(date.and_then(|date| HeaderValue::from_str(&httpdate::fmt_http_date(date)).ok()))
}

/// Serves the newest bytes that are mirrored under a name of this kind.
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

/// Serves mirrored bytes: whole, or the range that the client asks for (RFC 9110, section 14).
pub(crate) async fn kept(mirror: &Mirror, digest: Digest, mut request: Request) -> Result<Response, Error> {
    let keep = mirror.keep.clone();
    let tag = tag(&digest)?;
    let path = tokio::task::spawn_blocking(move || keep.path(&digest)).await??.ok_or(Error::NotFound)?;
    if wants_another(request.headers(), &tag) {
        return Ok((StatusCode::PRECONDITION_FAILED, [(header::ETAG, tag)]).into_response());
    }
    if has(request.headers(), &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let headers = request.headers_mut();
    // The client holds part of other bytes: a range of these would not fit.
    if headers.get(header::IF_RANGE).is_some_and(|wanted| *wanted != tag) {
        headers.remove(header::RANGE);
    }
    // The file's own date is when it was mirrored, not a date of its content: no answer may depend on it.
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
    // Its error type has no values, so this always succeeds.
    let mut response = served.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.remove(header::LAST_MODIFIED);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

/// The entity tag of bytes with this digest.
pub(crate) fn tag(digest: &Digest) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(&format!("\"{digest}\"")).map_err(|_| Error::NotFound)
}

/// Whether the client already has the bytes that `tag` names (RFC 9110, section 13.1.2).
pub(crate) fn has(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    listed(headers, &header::IF_NONE_MATCH).any(|one| one == "*" || one.trim_start_matches("W/") == *tag)
}

/// Whether the client accepts only bytes other than those that `tag` names (RFC 9110, section 13.1.1).
fn wants_another(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    headers.contains_key(header::IF_MATCH)
        && !listed(headers, &header::IF_MATCH).any(|one| one == "*" || one == *tag)
}

fn listed<'h>(headers: &'h HeaderMap, name: &'h HeaderName) -> impl Iterator<Item = &'h str> {
    let said = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    said.flat_map(|value| value.split(',')).map(str::trim)
}
