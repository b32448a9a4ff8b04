//! Manifests: distribution specification, "Pulling manifests", "Pushing Manifests", "Deleting Manifests".

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hab_oci::{Digest, Outline, RepositoryName, Tag, TagOrDigest};
use hab_store::{NewManifest, Publication};

use crate::Registry;
use crate::body::{self, blocking};
use crate::error::Error;
use crate::handle::{CONTENT_DIGEST, empty};
use crate::registry::now;

pub(crate) async fn get(
    registry: &Registry,
    name: &RepositoryName,
    reference: &str,
    method: &Method,
) -> Result<Response, Error> {
    let unknown = || Error::ManifestUnknown { repository: name.clone(), reference: reference.to_owned() };
    let key = existing(reference).map_err(|error| error.unwrap_or_else(unknown))?;
    let found = registry.store.catalog.manifest(name, &key).await?.ok_or_else(unknown)?;
    // Also for HEAD: who has the image already asks no more than whether its tag has moved.
    registry.pulls.saw(name, &found.digest, now());
    let headers = [
        (header::CONTENT_TYPE, found.media_type),
        (header::CONTENT_LENGTH, found.size.to_string()),
        (CONTENT_DIGEST, found.digest.to_string()),
        (header::ETAG, format!("\"{}\"", found.digest)),
    ];
    if method == Method::HEAD {
        return Ok((headers, Body::empty()).into_response());
    }
    let blobs = registry.store.blobs.clone();
    let digest = found.digest;
    let bytes = blocking(move || match blobs.read(&digest)? {
        Some(bytes) => Ok(bytes),
        None => Err(hab_store::Error::Damaged { digest }),
    })
    .await?;
    Ok((headers, bytes).into_response())
}

pub(crate) async fn put(
    registry: &Registry,
    name: &RepositoryName,
    reference: &str,
    request: Request,
) -> Result<Response, Error> {
    let key = new(reference)?;
    let said = match request.headers().get(header::CONTENT_TYPE) {
        Some(value) => Some(value.to_str().map_err(|_| Error::NoMediaType)?.to_owned()),
        None => None,
    };
    let bytes = body::read(request.into_body(), registry.limits.manifest, registry.limits.idle).await?;
    let media_type = said.or_else(|| Outline::media_type_within(&bytes)).ok_or(Error::NoMediaType)?;
    let (digest, tags) = match key {
        TagOrDigest::Tag(tag) => (Digest::of(&bytes), vec![tag]),
        TagOrDigest::Digest(digest) => (digest, Vec::new()),
    };
    let subject = Outline::read(&media_type, &bytes).ok().and_then(|outline| outline.subject);
    registry
        .store
        .publish(Publication {
            repository: name.clone(),
            blobs: Vec::new(),
            manifests: vec![NewManifest { digest: digest.clone(), media_type, bytes }],
            tags,
            root: digest.clone(),
            at: now(),
        })
        .await?;
    let location = format!("/v2/{name}/manifests/{digest}");
    let headers = [(header::LOCATION, location), (CONTENT_DIGEST, digest.to_string())];
    let mut response = empty(StatusCode::CREATED, headers);
    if let Some(value) = subject.and_then(|subject| HeaderValue::try_from(subject.to_string()).ok()) {
        response.headers_mut().insert(HeaderName::from_static("oci-subject"), value);
    }
    Ok(response)
}

pub(crate) async fn delete(
    registry: &Registry,
    name: &RepositoryName,
    reference: &str,
) -> Result<Response, Error> {
    let unknown = || Error::ManifestUnknown { repository: name.clone(), reference: reference.to_owned() };
    let catalog = &registry.store.catalog;
    let removed = match existing(reference).map_err(|error| error.unwrap_or_else(unknown))? {
        TagOrDigest::Tag(tag) => catalog.delete_tag(name, &tag, now()).await?,
        TagOrDigest::Digest(digest) => catalog.delete_manifest(name, &digest, now()).await?,
    };
    if removed { Ok(empty(StatusCode::ACCEPTED, [])) } else { Err(unknown()) }
}

/// A reference to make something under.
fn new(reference: &str) -> Result<TagOrDigest, Error> {
    if reference.contains(':') {
        Ok(TagOrDigest::Digest(reference.parse()?))
    } else {
        reference.parse::<Tag>().map(TagOrDigest::Tag).map_err(Error::Tag)
    }
}

/// A reference to find something by. What is not a tag is a tag that nothing has: `Err(None)`.
fn existing(reference: &str) -> Result<TagOrDigest, Option<Error>> {
    new(reference).map_err(|error| match error {
        Error::Tag(_) => None,
        other => Some(other),
    })
}
