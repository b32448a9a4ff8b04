//! Pushing blobs: distribution specification, "Pushing blobs", "Mounting a blob from another repository".

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use hab_oci::{Digest, RepositoryName};
use hab_store::{Catalog, Store, Upload, UploadId};
use hab_upstream::Upstreams;
use serde::Deserialize;

use crate::access::Permit;
use crate::body::{blocking, receive};
use crate::error::Error;
use crate::http::{CONTENT_DIGEST, empty, query};
use crate::limits::ServiceLimits;
use crate::range::{Piece, held};
use hab_clock::now;

/// The most repositories that are searched for one to mount a blob from.
const HOLDERS: u32 = 1000;

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

#[derive(Deserialize)]
struct Start {
    digest: Option<String>,
    mount: Option<String>,
    from: Option<String>,
}

#[derive(Deserialize)]
struct Finish {
    digest: Option<String>,
}

/// POST: mounts a blob, takes a whole one, or starts an upload (end-4a, end-4b, end-11).
pub(crate) async fn start(
    store: &Store,
    upstreams: &Upstreams,
    limits: &ServiceLimits,
    permit: &Permit<'_>,
    request: Request,
) -> Result<Response, Error> {
    let name = permit.repository();
    let Start { digest, mount, from } = query(request.uri())?;
    if let Some(digest) = mount {
        let digest: Digest = digest.parse()?;
        let from: Option<RepositoryName> = from.map(|from| from.parse().map_err(Error::Name)).transpose()?;
        if mounted(store, upstreams, permit, from, &digest).await? {
            return Ok(created(name, &digest));
        }
    }
    match digest {
        Some(digest) => whole(store, limits, name, &digest.parse()?, request).await,
        None => begin(store, name).await,
    }
}

/// Mounts a blob. `false` if the client must send it instead: its file is cut or gone, or the caller may not read it
/// where it is.
async fn mounted(
    store: &Store,
    upstreams: &Upstreams,
    permit: &Permit<'_>,
    from: Option<RepositoryName>,
    digest: &Digest,
) -> Result<bool, Error> {
    let catalog = &store.catalog;
    let holders = match from {
        Some(from) => vec![from],
        None => catalog.holders(digest, HOLDERS).await?,
    };
    let mut readable = None;
    for holder in holders {
        if can_be_read(store, upstreams, permit, &holder, digest).await? {
            readable = Some(holder);
            break;
        }
    }
    let Some(from) = readable else { return Ok(false) };
    let Some(size) = catalog.blob(&from, digest).await? else { return Ok(false) };
    let (blobs, key) = (store.blobs.clone(), digest.clone());
    if blocking(move || blobs.get(&key)).await? != Some(size) {
        return Ok(false);
    }
    Ok(catalog.mount_blob(&from, permit.repository(), digest, now()).await?)
}

/// Whether `holder` would give the blob to the same caller if it holds it: by the access rules, and for an upstream's
/// repository by what may be pulled from it and must be signed. No upstream is asked.
async fn can_be_read(
    store: &Store,
    upstreams: &Upstreams,
    permit: &Permit<'_>,
    holder: &RepositoryName,
    digest: &Digest,
) -> Result<bool, Error> {
    if !permit.may_pull(holder) {
        return Ok(false);
    }
    match upstreams.find(holder, None) {
        Ok(None) => Ok(true),
        Ok(Some(remote)) => Ok(remote.is_approved_blob(store, digest).await?),
        Err(_) => Ok(false),
    }
}

async fn whole(
    store: &Store,
    limits: &ServiceLimits,
    name: &RepositoryName,
    digest: &Digest,
    request: Request,
) -> Result<Response, Error> {
    let (blobs, expected) = (store.blobs.clone(), digest.clone());
    let writer = blocking(move || blobs.writer_with(expected.algorithm())).await?;
    let writer = receive(request.into_body(), writer, limits.blob, limits.idle).await?;
    store.keep_blob(name, writer, digest, now()).await?;
    Ok(created(name, digest))
}

async fn begin(store: &Store, name: &RepositoryName) -> Result<Response, Error> {
    let blobs = store.blobs.clone();
    let id = blocking(move || blobs.begin_upload()).await?;
    store.catalog.add_upload(&id, name, now()).await?;
    Ok(progress(StatusCode::ACCEPTED, name, &id, 0))
}

/// GET: how many bytes an upload has (end-13).
pub(crate) async fn status(store: &Store, name: &RepositoryName, id: &str) -> Result<Response, Error> {
    let id = known(&store.catalog, name, id).await?;
    let (blobs, key) = (store.blobs.clone(), id.clone());
    let size = blocking(move || blobs.upload_size(&key)).await?;
    Ok(progress(StatusCode::NO_CONTENT, name, &id, size))
}

/// PATCH: the next chunk (end-5).
pub(crate) async fn append(
    store: &Store,
    limits: &ServiceLimits,
    name: &RepositoryName,
    id: &str,
    request: Request,
) -> Result<Response, Error> {
    let id = known(&store.catalog, name, id).await?;
    let upload = take(store, limits, name, &id, request).await?;
    let size = upload.size();
    // Releases the upload's lock before the client learns that it may send the next chunk.
    blocking(move || upload.put_back()).await?;
    Ok(progress(StatusCode::ACCEPTED, name, &id, size))
}

/// PUT: the last chunk, which may be empty, and the digest of the whole (end-6).
pub(crate) async fn finish(
    store: &Store,
    limits: &ServiceLimits,
    name: &RepositoryName,
    id: &str,
    request: Request,
) -> Result<Response, Error> {
    let digest: Digest = query::<Finish>(request.uri())?.digest.ok_or(Error::NoDigest)?.parse()?;
    let id = known(&store.catalog, name, id).await?;
    let upload = take(store, limits, name, &id, request).await?;
    store.finish_upload(&id, upload, name, &digest, now()).await?;
    Ok(created(name, &digest))
}

/// DELETE: cancels an upload (end-14).
pub(crate) async fn cancel(store: &Store, name: &RepositoryName, id: &str) -> Result<Response, Error> {
    let id = known(&store.catalog, name, id).await?;
    let (blobs, key) = (store.blobs.clone(), id.clone());
    blocking(move || blobs.upload(&key)?.cancel()).await?;
    store.catalog.end_upload(&id).await?;
    Ok(empty(StatusCode::NO_CONTENT, []))
}

/// Finds an upload, which only its own repository has.
async fn known(catalog: &Catalog, name: &RepositoryName, id: &str) -> Result<UploadId, Error> {
    let id = id.parse().map_err(|_| Error::UploadUnknown)?;
    if catalog.has_upload(&id, name).await? { Ok(id) } else { Err(Error::UploadUnknown) }
}

/// Adds a request's body to an upload. With a Content-Range, the body must be exactly that chunk and begin where the
/// upload ends; otherwise the upload is left as it was.
async fn take(
    store: &Store,
    limits: &ServiceLimits,
    name: &RepositoryName,
    id: &UploadId,
    request: Request,
) -> Result<Upload, Error> {
    let piece = piece(request.headers())?;
    let (blobs, key) = (store.blobs.clone(), id.clone());
    let upload = blocking(move || blobs.upload(&key)).await?;
    let size = upload.size();
    if piece.is_some_and(|piece| piece.first != size) {
        return Err(Error::UploadOrder { location: location(name, id), size });
    }
    let mark = upload.mark();
    let mut upload = receive(request.into_body(), upload, limits.blob, limits.idle).await?;
    let came = upload.size() - size;
    match piece {
        Some(Piece { length: said, .. }) if said != came => {
            blocking(move || upload.rewind(mark)).await?;
            Err(Error::SizeMismatch { said, came })
        }
        _ => Ok(upload),
    }
}

/// The Content-Range, which must agree with the Content-Length if the request has both.
fn piece(headers: &HeaderMap) -> Result<Option<Piece>, Error> {
    let text =
        |name| headers.get(name).map(|value| value.to_str().map_err(|_| Error::UploadRange)).transpose();
    let Some(range) = text(header::CONTENT_RANGE)? else { return Ok(None) };
    let piece = Piece::of(range).ok_or(Error::UploadRange)?;
    match text(header::CONTENT_LENGTH)?.and_then(|length| length.parse::<u64>().ok()) {
        Some(came) if came != piece.length => Err(Error::SizeMismatch { said: piece.length, came }),
        _ => Ok(Some(piece)),
    }
}

fn location(name: &RepositoryName, id: &UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

fn progress(status: StatusCode, name: &RepositoryName, id: &UploadId, size: u64) -> Response {
    let headers =
        [(header::LOCATION, location(name, id)), (header::RANGE, held(size)), (UPLOAD_UUID, id.to_string())];
    empty(status, headers)
}

fn created(name: &RepositoryName, digest: &Digest) -> Response {
    let location = format!("/v2/{name}/blobs/{digest}");
    empty(StatusCode::CREATED, [(header::LOCATION, location), (CONTENT_DIGEST, digest.to_string())])
}
