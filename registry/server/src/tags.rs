//! Tags: distribution specification, "Listing Tags".

use axum::Json;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use hab_oci::{RepositoryName, Tag};
use hab_store::{Catalog, Store};
use hab_upstream::{Freshness, Remote};
use serde::Serialize;

use crate::error::Error;
use crate::list::{Page, next};

/// The most tags of one answer; a client that wants more follows the Link.
const MOST: u32 = 10_000;

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: &'a [Tag],
}

pub(crate) async fn list(catalog: &Catalog, name: &RepositoryName, uri: &Uri) -> Result<Response, Error> {
    let Page { n, last } = Page::of(uri, MOST)?;
    if !catalog.has_repository(name).await? {
        return Err(Error::NameUnknown(name.clone()));
    }
    // One more tag than asked for shows whether there is a next page.
    let tags = catalog.tags(name, last.as_deref(), n + 1).await?;
    Ok(answer(name.as_str(), tags, n, uri))
}

/// Lists the tags of an upstream's repository: those of the upstream, and those that are here.
pub(crate) async fn list_through(
    store: &Store,
    remote: &Remote,
    uri: &Uri,
) -> Result<(Response, Freshness), Error> {
    let Page { n, last } = Page::of(uri, MOST)?;
    let (all, freshness) = remote.tags(store).await?;
    let after = last.as_deref().unwrap_or_default();
    let behind = all.into_iter().skip_while(|tag| tag.as_str() <= after).take(n as usize + 1).collect();
    Ok((answer(remote.local.as_str(), behind, n, uri), freshness))
}

/// A page of `n` tags; one more tag in `tags` means that there is a next page.
fn answer(name: &str, mut tags: Vec<Tag>, n: u32, uri: &Uri) -> Response {
    let more = tags.len() > n as usize;
    tags.truncate(n as usize);
    let link = tags.last().filter(|_| more).and_then(|last| next(uri, Some(n), last.as_str()));
    let link = link.map(|link| [(header::LINK, link)]);
    (link, Json(TagList { name, tags: &tags })).into_response()
}
