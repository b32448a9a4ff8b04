//! Tags: distribution specification, "Listing Tags".

use axum::Json;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use hab_oci::{RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::Registry;
use crate::error::Error;
use crate::handle::query;

/// So that no answer is without bound; a client that wants more follows the Link.
const MOST: u32 = 10_000;

#[derive(Deserialize)]
struct Page {
    n: Option<String>,
    last: Option<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    name: &'a RepositoryName,
    tags: &'a [Tag],
}

pub(crate) async fn list(registry: &Registry, name: &RepositoryName, uri: &Uri) -> Result<Response, Error> {
    let Page { n, last } = query(uri)?;
    let n = match n {
        Some(text) => text.parse::<u32>().map_err(|_| Error::PageSize)?.min(MOST),
        None => MOST,
    };
    if !registry.store.catalog.has_repository(name).await? {
        return Err(Error::NameUnknown(name.clone()));
    }
    // One more than asked for says whether there is a next page.
    let mut tags = registry.store.catalog.tags(name, last.as_deref(), n + 1).await?;
    let more = tags.len() > n as usize;
    tags.truncate(n as usize);
    let link = tags
        .last()
        .filter(|_| more)
        .map(|last| [(header::LINK, format!("</v2/{name}/tags/list?n={n}&last={last}>; rel=\"next\""))]);
    Ok((link, Json(Answer { name, tags: &tags })).into_response())
}
