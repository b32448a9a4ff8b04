//! Lists the repositories: `/v2/_catalog`. It is older than the distribution specification and not part of it, but
//! `crane catalog`, `oras repo ls`, `regctl repo ls` and `podman search` ask for it.

use axum::Json;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use hab_oci::RepositoryName;
use hab_store::Catalog;
use hab_upstream::Upstreams;
use serde::Serialize;

use crate::access::View;
use crate::error::Error;
use crate::list::{Page, next};

/// The most names of one answer; a client that wants more follows the Link.
const MOST: u32 = 1000;
/// Names that are read from the catalog at a time.
const BATCH: u32 = 1000;

#[derive(Serialize)]
struct RepositoryList<'a> {
    repositories: &'a [RepositoryName],
}

/// Lists the repositories that have something to pull and that this caller may pull from. No other name is revealed.
pub(crate) async fn list(
    catalog: &Catalog,
    upstreams: &Upstreams,
    view: &View<'_>,
    uri: &Uri,
) -> Result<Response, Error> {
    let Page { n, last } = Page::of(uri, MOST)?;
    let wanted = n as usize;
    let mut names: Vec<RepositoryName> = Vec::new();
    let mut after = last.unwrap_or_default();
    // One more name than asked for shows whether there is a next page.
    while wanted > 0 && names.len() <= wanted {
        let batch = catalog.repository_page(&after, BATCH).await?;
        let Some(end) = batch.last() else { break };
        end.as_str().clone_into(&mut after);
        let whole = batch.len() < BATCH as usize;
        names.extend(batch.into_iter().filter(|name| is_served(upstreams, name) && view.shows(name)));
        if whole {
            break;
        }
    }
    let more = names.len() > wanted;
    names.truncate(wanted);
    let link = names.last().filter(|_| more).and_then(|last| next(uri, Some(n), last.as_str()));
    let link = link.map(|link| [(header::LINK, link)]);
    Ok((link, Json(RepositoryList { repositories: &names })).into_response())
}

/// Whether a repository may be pulled by this name. For an upstream's repository, the operator decides that.
fn is_served(upstreams: &Upstreams, name: &RepositoryName) -> bool {
    upstreams.find(name, None).is_ok_and(|remote| remote.is_none_or(|remote| remote.local == *name))
}
