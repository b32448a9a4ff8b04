//! What is said about a manifest: distribution specification, "Listing Referrers".

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use hab_oci::{Digest, RepositoryName, media_type};
use hab_store::Referrer;
use serde::{Deserialize, Serialize};

use crate::Registry;
use crate::error::Error;
use crate::handle::query;
use crate::upstream::Remote;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    artifact_type: Option<String>,
    last: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Entry>,
}

/// A descriptor of a referrer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) artifact_type: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Entry {
    /// Bytes that it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        let notes = self.annotations.iter().map(|(name, text)| 96 + name.len() + text.len()).sum::<usize>();
        256 + self.media_type.len() + self.artifact_type.as_ref().map_or(0, String::len) + notes
    }
}

impl From<Referrer> for Entry {
    fn from(Referrer { manifest, artifact_type, annotations }: Referrer) -> Self {
        let (media_type, digest, size) = (manifest.media_type, manifest.digest, manifest.size);
        Self { media_type, digest, size, artifact_type, annotations }
    }
}

/// A subject that nobody has heard of has no referrers; that is not an error. A list that is longer than a manifest may be
/// comes in pages.
pub(crate) async fn list(
    registry: &Registry,
    name: &RepositoryName,
    subject: &Digest,
    uri: &Uri,
) -> Result<Response, Error> {
    let Filter { artifact_type, last } = query(uri)?;
    let last = last.map(|last| last.parse::<Digest>()).transpose()?;
    let catalog = &registry.store.catalog;
    let (page, more) = catalog
        .referrers_page(name, subject, artifact_type.as_deref(), last.as_ref(), registry.limits.manifest)
        .await?;
    let link = page.last().filter(|_| more).map(|last| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("last", &last.manifest.digest.to_string());
        if let Some(kind) = &artifact_type {
            query.append_pair("artifactType", kind);
        }
        format!("</v2/{name}/referrers/{subject}?{}>; rel=\"next\"", query.finish())
    });
    let mut response = answer(page.into_iter().map(Entry::from).collect(), uri)?;
    if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// The same, of an upstream's repository: what is there and what is here.
pub(crate) async fn list_through(
    registry: &Registry,
    remote: &Remote,
    subject: &Digest,
    uri: &Uri,
) -> Result<Response, Error> {
    let (all, freshness) = remote.referrers(&registry.store, subject, registry.limits.manifest).await?;
    let mut response = answer(all, uri)?;
    remote.answered(&registry.metrics, "referrers", freshness, &mut response);
    Ok(response)
}

fn answer(all: Vec<Entry>, uri: &Uri) -> Result<Response, Error> {
    let Filter { artifact_type, .. } = query(uri)?;
    let wanted = |entry: &Entry| artifact_type.is_none() || entry.artifact_type == artifact_type;
    let manifests = all.into_iter().filter(wanted).collect();
    let filtered = artifact_type.is_some().then_some([(FILTERS_APPLIED, "artifactType")]);
    let answer = Answer { schema_version: 2, media_type: media_type::IMAGE_INDEX, manifests };
    let mut response = (filtered, Json(answer)).into_response();
    let kind = HeaderValue::from_static(media_type::IMAGE_INDEX);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
