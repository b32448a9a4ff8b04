//! Blobs: distribution specification, "Pulling blobs", "Deleting Blobs".

use std::fs::File;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use hab_oci::{Digest, RepositoryName};
use hab_store::{Catalog, Store};
use hab_upstream::{Arriving, Download, Freshness, Remote};

use crate::body::blocking;
use crate::chunks::Chunks;
use crate::conditions;
use crate::error::Error;
use crate::http::{CONTENT_DIGEST, empty};
use crate::limits::ServiceLimits;
use crate::multipart::Multipart;
use crate::range::{Part, Wanted};

/// Where a blob's bytes are.
enum Source {
    /// In a file whose bytes were checked when they came.
    Kept(Arc<File>),
    /// On their way from an upstream.
    Coming(Download),
}

impl Source {
    fn read(&self, first: u64, length: u64) -> BoxStream<'static, io::Result<Bytes>> {
        match self {
            Self::Kept(file) => Chunks::new(file.clone(), first, length).boxed(),
            Self::Coming(download) => download.clone().part(first, length).boxed(),
        }
    }

    fn send(&self, first: u64, length: u64) -> Body {
        match self {
            // Not boxed, because most answers come from here.
            Self::Kept(file) => Body::from_stream(Chunks::new(file.clone(), first, length)),
            Self::Coming(download) => Body::from_stream(download.clone().part(first, length)),
        }
    }
}

pub(crate) async fn get(
    store: &Store,
    name: &RepositoryName,
    digest: &Digest,
    head: &Parts,
) -> Result<Response, Error> {
    let unknown = || Error::BlobUnknown { repository: name.clone(), digest: digest.clone() };
    let size = store.catalog.blob(name, digest).await?.ok_or_else(unknown)?;
    let (blobs, key) = (store.blobs.clone(), digest.clone());
    let blob = match blocking(move || blobs.open_blob(&key)).await? {
        Some(blob) if blob.size == size => blob,
        // Answers that the blob is not here, so that a client pushes it again and repairs it.
        _ => {
            tracing::error!(%digest, repository = %name, "the file of a blob is cut or gone");
            return Err(unknown());
        }
    };
    respond(Source::Kept(Arc::new(blob.file)), digest, size, head)
}

/// The answer with a blob's bytes, which are here or still coming.
fn respond(source: Source, digest: &Digest, size: u64, head: &Parts) -> Result<Response, Error> {
    if let Some(instead) = conditions::instead(&head.headers, digest)? {
        return Ok(instead);
    }
    let plain = || "application/octet-stream".to_owned();
    let (status, kind, length, range, content) = match wanted(head, digest, size) {
        Wanted::Nothing => return Err(Error::RangeNotSatisfiable { size }),
        Wanted::All if head.method == Method::HEAD => (StatusCode::OK, plain(), size, None, Body::empty()),
        Wanted::All => (StatusCode::OK, plain(), size, None, source.send(0, size)),
        Wanted::One(part) => {
            let range = Some([(header::CONTENT_RANGE, part.said(size))]);
            let content = source.send(part.first, part.length());
            (StatusCode::PARTIAL_CONTENT, plain(), part.length(), range, content)
        }
        Wanted::Several(parts) => {
            let several = Multipart::new(parts, digest, size);
            let (kind, length) = (several.kind(), several.length());
            let content = several.send(move |part: Part| source.read(part.first, part.length()));
            (StatusCode::PARTIAL_CONTENT, kind, length, None, content)
        }
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (CONTENT_DIGEST, digest.to_string()),
        (header::ETAG, format!("\"{digest}\"")),
    ];
    Ok((status, headers, range, content).into_response())
}

/// Answers the same for a blob of an upstream's repository. A blob that is still coming is sent as it comes, also a
/// part of it.
pub(crate) async fn get_through(
    store: &Store,
    limits: &ServiceLimits,
    remote: &Remote,
    digest: &Digest,
    head: &Parts,
) -> Result<(Response, Freshness), Error> {
    remote.approve_blob(store, digest, limits.manifest).await?;
    if store.catalog.blob(&remote.local, digest).await?.is_some() {
        return Ok((get(store, &remote.local, digest, head).await?, Freshness::Hit));
    }
    if head.method == Method::HEAD
        && let Some(size) = remote.blob_size(store, digest).await?
    {
        return Ok((described(digest, size, &head.headers)?, Freshness::Miss));
    }
    let download = match remote.blob(store, digest, limits.blob).await? {
        Arriving::Here => {
            return Ok((get(store, &remote.local, digest, head).await?, Freshness::Hit));
        }
        Arriving::Coming(download) => download,
    };
    let size = download.size();
    let first = match wanted(head, digest, size) {
        Wanted::One(part) => Some(part.first),
        Wanted::Several(parts) => parts.first().map(|part| part.first),
        Wanted::All | Wanted::Nothing => None,
    };
    // Waits for the first byte: until it is sent, a failure can still be answered with a status.
    if let Some(first) = first {
        download.reach(first).await.map_err(|failure| remote.failed(failure))?;
    }
    Ok((respond(Source::Coming(download), digest, size, head)?, Freshness::Miss))
}

/// The answer to a HEAD for a blob that has `size` bytes upstream. Nothing is fetched for it.
fn described(digest: &Digest, size: u64, headers: &HeaderMap) -> Result<Response, Error> {
    if let Some(instead) = conditions::instead(headers, digest)? {
        return Ok(instead);
    }
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (CONTENT_DIGEST, digest.to_string()),
        (header::ETAG, format!("\"{digest}\"")),
    ];
    Ok((headers, Body::empty()).into_response())
}

/// The range that a request asks for. It counts only for a GET (RFC 9110, section 14.2), and only if the client has the
/// rest of the same bytes (`If-Range`).
fn wanted(head: &Parts, digest: &Digest, size: u64) -> Wanted {
    let text = |name| head.headers.get(name)?.to_str().ok();
    let same = text(header::IF_RANGE).is_none_or(|tag| tag == format!("\"{digest}\""));
    if head.method == Method::GET && same { Wanted::of(text(header::RANGE), size) } else { Wanted::All }
}

pub(crate) async fn delete(
    catalog: &Catalog,
    name: &RepositoryName,
    digest: &Digest,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    // A digest names its own content or nothing. If it names nothing, the blob is unknown, whatever the conditions.
    if !conditions::expected(headers).holds(Some(digest)) && catalog.blob(name, digest).await?.is_some() {
        return Err(Error::Precondition);
    }
    if catalog.unlink_blob(name, digest).await? {
        Ok(empty(StatusCode::ACCEPTED, []))
    } else {
        Err(Error::BlobUnknown { repository: name.clone(), digest: digest.clone() })
    }
}
