//! Manifests: distribution specification, "Pulling manifests", "Pushing Manifests", "Deleting Manifests".

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use hab_blobs::Error as BlobError;
use hab_oci::{Digest, Outline, RepositoryName, Tag, TagOrDigest};
use hab_store::{Blobs, Catalog, ManifestRecord, NewManifest, Publication, Pulls, Store};
use hab_turns::{Client, Turns};
use hab_upstream::{Freshness, Remote};

use crate::access::Peer;
use crate::body::{self, blocking};
use crate::conditions;
use crate::error::Error;
use crate::http::{CONTENT_DIGEST, empty, query};
use crate::kept::{CachedManifest, ManifestCache};
use crate::limits::{Rules, ServiceLimits};
use hab_clock::now;

/// The most tags that one push by digest may set; the specification asks for at least ten.
const MOST_TAGS: usize = 100;

pub(crate) async fn get(
    store: &Store,
    kept: &ManifestCache,
    pulls: &Pulls,
    name: &RepositoryName,
    reference: &str,
    head: &Parts,
) -> Result<Response, Error> {
    let version = store.catalog.version().await?;
    let asked = format!("{name} {reference}");
    let answer = if let Some(answer) = kept.get(version, &asked) {
        answer
    } else {
        let unknown = || Error::ManifestUnknown { repository: name.clone(), reference: reference.to_owned() };
        let key = existing(reference).map_err(|error| error.unwrap_or_else(unknown))?;
        let found = store.catalog.manifest(name, &key).await?.ok_or_else(unknown)?;
        let answer = read(&store.blobs, found).await?;
        kept.put(version, asked, answer.clone());
        answer
    };
    // A HEAD counts as a pull, too: a client that has the image only asks whether its tag has moved.
    pulls.saw(name, &answer.digest, now());
    match conditions::instead(&head.headers, &answer.digest)? {
        Some(instead) => Ok(instead),
        None => Ok(answer.to(&head.method)),
    }
}

/// Answers the same for a manifest of an upstream's repository. `limit`: bytes of a manifest.
pub(crate) async fn get_through(
    store: &Store,
    pulls: &Pulls,
    limit: usize,
    remote: &Remote,
    reference: &str,
    head: &Parts,
) -> Result<(Response, Freshness), Error> {
    let unknown =
        || Error::ManifestUnknown { repository: remote.local.clone(), reference: reference.to_owned() };
    let key = existing(reference).map_err(|error| error.unwrap_or_else(unknown))?;
    let (found, freshness) = remote.manifest(store, &key, limit).await?;
    pulls.saw(&remote.local, &found.digest, now());
    let response = match conditions::instead(&head.headers, &found.digest)? {
        Some(instead) => instead,
        None => read(&store.blobs, found).await?.to(&head.method),
    };
    Ok((response, freshness))
}

/// Reads a manifest and checks its bytes.
async fn read(blobs: &Blobs, found: ManifestRecord) -> Result<CachedManifest, Error> {
    let (blobs, digest, size) = (blobs.clone(), found.digest.clone(), found.size);
    // The size that the catalog names: a file of another size is damaged.
    let bytes = blocking(move || match blobs.read(&digest, size) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) | Err(BlobError::TooLarge { .. }) => Err(BlobError::Damaged { digest }),
        Err(other) => Err(other),
    })
    .await?;
    let mut headers = HeaderMap::new();
    let said = [
        (header::CONTENT_TYPE, found.media_type),
        (header::CONTENT_LENGTH, found.size.to_string()),
        (CONTENT_DIGEST, found.digest.to_string()),
        (header::ETAG, format!("\"{}\"", found.digest)),
    ];
    for (name, value) in said {
        // The media type is one of a few, so all of these are valid header values.
        headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
    }
    Ok(CachedManifest { digest: found.digest, headers, bytes: bytes.into() })
}

pub(crate) async fn put(
    store: &Store,
    limits: &ServiceLimits,
    rules: &Rules,
    large: &Turns,
    name: &RepositoryName,
    reference: &str,
    request: Request,
) -> Result<Response, Error> {
    let key = new(reference)?;
    let by_digest = matches!(key, TagOrDigest::Digest(_));
    let more = tags_of(request.uri())?;
    if !more.is_empty() && !by_digest {
        return Err(Error::TagsOfTag);
    }
    let said = match request.headers().get(header::CONTENT_TYPE) {
        Some(value) => Some(value.to_str().map_err(|_| Error::NoMediaType)?.to_owned()),
        None => None,
    };
    let client = Client::of(Peer::of(request.extensions()).address);
    let expected = conditions::expected(request.headers());
    // A large manifest keeps its turn until it is published.
    let (bytes, _turn) = body::read_in_turn(request.into_body(), limits, large, client).await?;
    let Sent { bytes, media_type, digest, subject } = if bytes.len() > body::SMALL {
        blocking(move || Ok::<_, Error>(Sent::of(bytes, said))).await?
    } else {
        Sent::of(bytes, said)
    };
    let media_type = media_type.ok_or(Error::NoMediaType)?;
    let (digest, tags) = match &key {
        TagOrDigest::Tag(tag) => (digest, vec![tag.clone()]),
        TagOrDigest::Digest(digest) => (digest.clone(), more),
    };
    let publication = Publication {
        repository: name.clone(),
        blobs: Vec::new(),
        manifests: vec![NewManifest { digest: digest.clone(), media_type, bytes }],
        tags: tags.clone(),
        root: digest.clone(),
        gaps: rules.gaps,
        at: now(),
    };
    store.publish_if(publication, &key, &expected).await?;
    let location = format!("/v2/{name}/manifests/{digest}");
    let headers = [(header::LOCATION, location), (CONTENT_DIGEST, digest.to_string())];
    let mut response = empty(StatusCode::CREATED, headers);
    if let Some(value) = subject.and_then(|subject| HeaderValue::try_from(subject.to_string()).ok()) {
        response.headers_mut().insert(HeaderName::from_static("oci-subject"), value);
    }
    if by_digest {
        for tag in &tags {
            let value = HeaderValue::try_from(tag.as_str());
            let _ =
                value.map(|value| response.headers_mut().append(HeaderName::from_static("oci-tag"), value));
        }
    }
    Ok(response)
}

/// A manifest as a client sent it.
struct Sent {
    bytes: Vec<u8>,
    /// The media type that the client names, or else the manifest itself.
    media_type: Option<String>,
    digest: Digest,
    subject: Option<Digest>,
}

impl Sent {
    /// Hashes and parses a manifest; takes a while for a large one.
    fn of(bytes: Vec<u8>, said: Option<String>) -> Self {
        let media_type = said.or_else(|| Outline::media_type_within(&bytes));
        let outline = media_type.as_ref().and_then(|kind| Outline::read(kind, &bytes).ok());
        let subject = outline.and_then(|outline| outline.subject);
        Self { digest: Digest::of(&bytes), media_type, subject, bytes }
    }
}

/// The `tag` parameters of a push by digest: distribution specification, end-7b.
pub(crate) fn tags_of(uri: &Uri) -> Result<Vec<Tag>, Error> {
    let pairs: Vec<(String, String)> = query(uri)?;
    let tags = pairs.into_iter().filter(|(name, _)| name == "tag").map(|(_, text)| tag(&text));
    let mut tags = tags.collect::<Result<Vec<Tag>, Error>>()?;
    tags.sort();
    tags.dedup();
    if tags.len() > MOST_TAGS { Err(Error::TooManyTags { limit: MOST_TAGS }) } else { Ok(tags) }
}

pub(crate) async fn delete(
    catalog: &Catalog,
    name: &RepositoryName,
    reference: &str,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    let unknown = || Error::ManifestUnknown { repository: name.clone(), reference: reference.to_owned() };
    let expected = conditions::expected(headers);
    let key = existing(reference).map_err(|error| error.unwrap_or_else(unknown))?;
    let removed = match &key {
        TagOrDigest::Tag(tag) => catalog.delete_tag_if(name, tag, &expected, now()).await?,
        // A digest names its own content or nothing. If it names nothing, the manifest is unknown, whatever the
        // conditions.
        TagOrDigest::Digest(digest)
            if !expected.holds(Some(digest)) && catalog.manifest(name, &key).await?.is_some() =>
        {
            return Err(Error::Precondition);
        }
        TagOrDigest::Digest(digest) => catalog.delete_manifest(name, digest, now()).await?,
    };
    if removed { Ok(empty(StatusCode::ACCEPTED, [])) } else { Err(unknown()) }
}

/// Parses a reference for a write.
fn new(reference: &str) -> Result<TagOrDigest, Error> {
    if reference.contains(':') {
        Ok(TagOrDigest::Digest(reference.parse()?))
    } else {
        tag(reference).map(TagOrDigest::Tag)
    }
}

/// Parses a tag. A chart's version may have a plus, which a tag may not. Helm writes an underscore for it, so a plus is
/// read as an underscore here.
fn tag(text: &str) -> Result<Tag, Error> {
    text.replace('+', "_").parse().map_err(Error::Tag)
}

/// Parses a reference for a read. `Err(None)` if it is not a valid tag: then no manifest can have it.
fn existing(reference: &str) -> Result<TagOrDigest, Option<Error>> {
    new(reference).map_err(|error| match error {
        Error::Tag(_) => None,
        other => Some(other),
    })
}
