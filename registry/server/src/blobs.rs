//! Blobs: distribution specification, "Pulling blobs", "Deleting Blobs".

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hab_oci::{Digest, RepositoryName};

use crate::Registry;
use crate::body::blocking;
use crate::chunks::send;
use crate::error::Error;
use crate::handle::{CONTENT_DIGEST, empty};
use crate::multipart;
use crate::range::Wanted;
use crate::upstream::{Arriving, Freshness, Remote};

pub(crate) async fn get(
    registry: &Registry,
    name: &RepositoryName,
    digest: &Digest,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    let unknown = || Error::BlobUnknown { repository: name.clone(), digest: digest.clone() };
    let size = registry.store.catalog.blob(name, digest).await?.ok_or_else(unknown)?;
    let (blobs, key) = (registry.store.blobs.clone(), digest.clone());
    let blob = match blocking(move || blobs.open_blob(&key)).await? {
        Some(blob) if blob.size == size => blob,
        // To say that it is not here lets a client push it again, which mends it.
        _ => {
            tracing::error!(%digest, repository = %name, "the file of a blob is cut or gone");
            return Err(unknown());
        }
    };
    let wanted = wanted(method, headers, digest, size);
    let (status, length) = match &wanted {
        Wanted::All => (StatusCode::OK, size),
        Wanted::Nothing => return Err(Error::RangeNotSatisfiable { size }),
        Wanted::One(part) => (StatusCode::PARTIAL_CONTENT, part.length()),
        Wanted::Several(parts) => (StatusCode::PARTIAL_CONTENT, multipart::length(parts, size)),
    };
    let kind = match &wanted {
        Wanted::Several(_) => multipart::TYPE,
        _ => "application/octet-stream",
    };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (CONTENT_DIGEST, digest.to_string()),
        (header::ETAG, format!("\"{digest}\"")),
    ];
    let range = match &wanted {
        Wanted::One(part) => Some([(header::CONTENT_RANGE, part.said(size))]),
        _ => None,
    };
    let content = match wanted {
        _ if method == Method::HEAD => Body::empty(),
        Wanted::One(part) => send(blob.file, part.first, part.length()),
        Wanted::Several(parts) => multipart::send(blob.file, parts, size),
        Wanted::All | Wanted::Nothing => send(blob.file, 0, size),
    };
    Ok((status, headers, range, content).into_response())
}

/// The same, of an upstream's repository. One that is on its way is sent as it comes; a part of it when it is here.
pub(crate) async fn get_through(
    registry: &Registry,
    remote: &Remote,
    digest: &Digest,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    let said = |mut response: Response, freshness: Freshness| {
        remote.answered(&registry.metrics, "blob", freshness, &mut response);
        response
    };
    remote.approve_blob(&registry.store, digest, registry.limits.manifest).await?;
    if registry.store.catalog.blob(&remote.local, digest).await?.is_none() {
        match remote.blob(&registry.store, digest, registry.limits.blob).await? {
            Arriving::Here => {}
            Arriving::Coming(download) if headers.contains_key(header::RANGE) => {
                download.end().await.map_err(|failure| remote.failed(failure))?;
            }
            Arriving::Coming(download) => {
                let headers = [
                    (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                    (header::CONTENT_LENGTH, download.size().to_string()),
                    (header::ACCEPT_RANGES, "bytes".to_owned()),
                    (CONTENT_DIGEST, digest.to_string()),
                    (header::ETAG, format!("\"{digest}\"")),
                ];
                let body = if method == Method::HEAD { Body::empty() } else { download.body() };
                return Ok(said((headers, body).into_response(), Freshness::Miss));
            }
        }
    }
    let response = get(registry, &remote.local, digest, method, headers).await?;
    Ok(said(response, Freshness::Hit))
}

/// A range is for a GET (RFC 9110, section 14.2), and only for the bytes that the client has the rest of.
fn wanted(method: &Method, headers: &HeaderMap, digest: &Digest, size: u64) -> Wanted {
    let text = |name| headers.get(name)?.to_str().ok();
    let same = text(header::IF_RANGE).is_none_or(|tag| tag == format!("\"{digest}\""));
    if method == Method::GET && same { Wanted::of(text(header::RANGE), size) } else { Wanted::All }
}

pub(crate) async fn delete(
    registry: &Registry,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Response, Error> {
    if registry.store.catalog.unlink_blob(name, digest).await? {
        Ok(empty(StatusCode::ACCEPTED, []))
    } else {
        Err(Error::BlobUnknown { repository: name.clone(), digest: digest.clone() })
    }
}
