//! What is said about a manifest: distribution specification, "Listing Referrers".

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderName, Uri, header};
use axum::response::{IntoResponse, Response};
use hab_oci::{Digest, RepositoryName, media_type};
use hab_store::Referrer;
use serde::{Deserialize, Serialize};

use crate::Registry;
use crate::error::Error;
use crate::handle::query;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    artifact_type: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl From<Referrer> for Entry {
    fn from(Referrer { manifest, artifact_type, annotations }: Referrer) -> Self {
        let (media_type, digest, size) = (manifest.media_type, manifest.digest, manifest.size);
        Self { media_type, digest, size, artifact_type, annotations }
    }
}

/// A subject that nobody has heard of has no referrers; that is not an error.
pub(crate) async fn list(
    registry: &Registry,
    name: &RepositoryName,
    subject: &Digest,
    uri: &Uri,
) -> Result<Response, Error> {
    let Filter { artifact_type } = query(uri)?;
    let referrers = registry.store.catalog.referrers(name, subject).await?;
    let wanted = |r: &Referrer| artifact_type.is_none() || r.artifact_type == artifact_type;
    let manifests = referrers.into_iter().filter(wanted).map(Entry::from).collect();
    let filtered = artifact_type.is_some().then_some([(FILTERS_APPLIED, "artifactType")]);
    let answer = Answer { schema_version: 2, media_type: media_type::IMAGE_INDEX, manifests };
    let mut response = (filtered, Json(answer)).into_response();
    let kind = axum::http::HeaderValue::from_static(media_type::IMAGE_INDEX);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
