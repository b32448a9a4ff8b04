//! Serves a sparse crates index and its .crate files, for cargo to use as a source replacement (Cargo book, "Index
//! Format").

use std::io::Read as _;

use axum::extract::{Path, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hab_mirror::{Keep, KeepError, crates, kinds};
use hab_oci::Digest;

use crate::Mirror;
use crate::error::Error;
use crate::files::{has, named, tag};

pub(crate) async fn get(
    State(mirror): State<Mirror>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    // One match decides, because `dl` may also be the beginning of a crate's path.
    match path.split('/').collect::<Vec<_>>()[..] {
        ["config.json"] => configuration(request.headers()),
        ["dl", name, version, "download"] => {
            named(mirror, kinds::CRATE, format!("{name} {version}"), request).await
        }
        _ => entry(&mirror, crates::asked(&path).ok_or(Error::NotFound)?, request.headers()).await,
    }
}

/// The index's config.json. Its `dl` repeats the address by which this client reaches the mirror, because cargo accepts
/// no relative one.
fn configuration(headers: &HeaderMap) -> Result<Response, Error> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).ok_or(Error::NoHost)?;
    let host: Authority = host.parse().map_err(|_| Error::NoHost)?;
    // Only a host and a port: cargo would send a user name before it along, and expands braces.
    if !host.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b)) {
        return Err(Error::NoHost);
    }
    // The listener keeps these headers from the proxies that its configuration names, and removes them from other
    // requests.
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scheme = if said("x-forwarded-proto") == "https" { "https" } else { "http" };
    let prefix = said("x-forwarded-prefix");
    if !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~/".contains(&b)) {
        return Err(Error::NoHost);
    }
    let body = format!("{{\"dl\":\"{scheme}://{host}{prefix}/crates/dl\"}}\n");
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body)
        .into_response())
}

/// The mirrored index lines of a crate.
async fn entry(mirror: &Mirror, name: &str, headers: &HeaderMap) -> Result<Response, Error> {
    let (keep, prefix) = (mirror.keep.clone(), format!("{name} "));
    let lines = tokio::task::spawn_blocking(move || lines(keep.as_ref(), &prefix)).await??;
    if lines.is_empty() {
        return Err(Error::NotKept);
    }
    let tag = tag(&Digest::of(&lines))?;
    if has(headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let kind = HeaderValue::from_static("text/plain");
    Ok(([(header::ETAG, tag), (header::CONTENT_TYPE, kind)], lines).into_response())
}

fn lines(keep: &dyn Keep, prefix: &str) -> Result<Vec<u8>, KeepError> {
    let mut lines = Vec::new();
    for kept in keep.names_below(kinds::CRATE_LINE, prefix)? {
        if let Some(mut file) = keep.open(&kept.digest)? {
            file.read_to_end(&mut lines).map_err(|e| KeepError::Store(Box::new(e)))?;
            lines.push(b'\n');
        }
    }
    Ok(lines)
}
