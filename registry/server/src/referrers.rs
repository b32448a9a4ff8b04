//! Lists the referrers of a manifest: distribution specification, "Listing Referrers".

use std::collections::BTreeMap;
use std::io;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use hab_oci::{Digest, RepositoryName, media_type};
use hab_store::{Catalog, Referrer, Store};
use hab_upstream::{Freshness, Remote};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::http::query;
use crate::list::next;

/// The most bytes of an answer, whatever the limit for manifests here: clients read a list like a manifest, and no
/// further than 4 MiB.
const PAGE: usize = 4 << 20;
/// Bytes of an answer beside its descriptors, with room to spare.
const AROUND: usize = 1 << 10;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    artifact_type: Option<String>,
    last: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReferrerIndex {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<ReferrerDescriptor>,
}

/// A descriptor of a referrer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReferrerDescriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl ReferrerDescriptor {
    /// Bytes that the entry takes in an answer, with the comma after it.
    fn length(&self) -> usize {
        let mut count = Count(1);
        // An entry has only texts and numbers, and the counter takes everything, so this cannot fail.
        let _ = serde_json::to_writer(&mut count, self);
        count.0
    }
}

/// Counts written bytes.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<Referrer> for ReferrerDescriptor {
    fn from(Referrer { manifest, artifact_type, annotations }: Referrer) -> Self {
        let (media_type, digest, size) = (manifest.media_type, manifest.digest, manifest.size);
        Self { media_type, digest, size, artifact_type, annotations }
    }
}

/// Lists the referrers of a manifest. An unknown subject has no referrers; that is not an error. A long list comes in
/// pages.
pub(crate) async fn list(
    catalog: &Catalog,
    name: &RepositoryName,
    subject: &Digest,
    uri: &Uri,
) -> Result<Response, Error> {
    let Filter { artifact_type, last } = query(uri)?;
    let last = last.map(|last| last.parse::<Digest>()).transpose()?;
    let (page, more) =
        catalog.referrers_page(name, subject, artifact_type.as_deref(), last.as_ref(), PAGE).await?;
    Ok(answer(page.into_iter().map(ReferrerDescriptor::from).collect(), more, artifact_type.is_some(), uri))
}

/// Lists the referrers in an upstream's repository: those of the upstream and those that are here. `limit`: bytes of a
/// manifest.
pub(crate) async fn list_through(
    store: &Store,
    limit: usize,
    remote: &Remote,
    subject: &Digest,
    uri: &Uri,
) -> Result<(Response, Freshness), Error> {
    let Filter { artifact_type, last } = query(uri)?;
    let last = last.map(|last| last.parse::<Digest>()).transpose()?;
    let (all, freshness) = remote.referrers(store, subject, limit).await?;
    let wanted = |entry: &ReferrerDescriptor| {
        (artifact_type.is_none() || entry.artifact_type == artifact_type)
            && last.as_ref().is_none_or(|last| entry.digest > *last)
    };
    let all = all.into_iter().map(ReferrerDescriptor::from).filter(wanted).collect();
    Ok((answer(all, false, artifact_type.is_some(), uri), freshness))
}

/// A page of these entries, which are sorted by digest: as many as fit, and a link to the next page.
fn answer(all: Vec<ReferrerDescriptor>, more: bool, filtered: bool, uri: &Uri) -> Response {
    let (manifests, left_out) = fitting(all, PAGE - AROUND);
    let link = manifests.last().filter(|_| more || left_out);
    let link = link.and_then(|last| next(uri, None, &last.digest.to_string()));
    let filtered = filtered.then_some([(FILTERS_APPLIED, "artifactType")]);
    let answer = ReferrerIndex { schema_version: 2, media_type: media_type::IMAGE_INDEX, manifests };
    let mut response = (filtered, Json(answer)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::IMAGE_INDEX));
    headers.extend(link.map(|link| (header::LINK, link)));
    response
}

/// The first entries that together take at most `room` bytes, and whether others are left out. An entry that is larger
/// by itself is listed without its annotations, which the manifest has: no client could read a page with them.
fn fitting(all: Vec<ReferrerDescriptor>, room: usize) -> (Vec<ReferrerDescriptor>, bool) {
    let (mut taken, mut page) = (0, Vec::new());
    for mut entry in all {
        let mut length = entry.length();
        if length > room {
            tracing::warn!(digest = %entry.digest, length, "a referrer is listed without its annotations");
            entry.annotations.clear();
            length = entry.length();
        }
        if taken + length > room && !page.is_empty() {
            return (page, true);
        }
        taken += length;
        page.push(entry);
    }
    (page, false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(n: u32, notes: usize) -> ReferrerDescriptor {
        ReferrerDescriptor {
            media_type: media_type::IMAGE_MANIFEST.to_owned(),
            digest: Digest::of(&n.to_be_bytes()),
            size: u64::from(n),
            artifact_type: Some("t/\"quoted\"".to_owned()),
            annotations: BTreeMap::from([("a\n".to_owned(), "\"".repeat(notes))]),
        }
    }

    #[test]
    fn no_page_has_more_bytes_than_it_may_and_all_of_them_have_everything() {
        for (count, notes, room) in [(1, 5, 10_000), (100, 50, 2000), (10, 3000, 2000), (7, 900, 2050)] {
            let mut left: Vec<ReferrerDescriptor> = (0..count).map(|n| entry(n, notes)).collect();
            let all: Vec<Digest> = left.iter().map(|entry| entry.digest.clone()).collect();
            let mut listed = Vec::new();
            loop {
                let (page, more) = fitting(left.clone(), room);
                assert!(serde_json::to_vec(&page).unwrap().len() <= room + 1, "{count} {notes} {room}");
                left.drain(..page.len());
                listed.extend(page.into_iter().map(|entry| entry.digest));
                assert_eq!(more, !left.is_empty());
                if !more {
                    break;
                }
            }
            assert_eq!(listed, all);
        }
    }
}
