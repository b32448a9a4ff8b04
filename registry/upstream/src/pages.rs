//! Lists that an upstream sends in pages: its tags, and the referrers of a manifest.

use std::collections::BTreeMap;

use hab_oci::{Digest, Tag};
use hab_outbound::header::{ACCEPT, HeaderMap, HeaderValue, LINK};
use hab_outbound::{Method, Url};
use hab_store::{ManifestRecord, Referrer};
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;

use crate::client::Client;
use crate::failure::Failure;

/// The most bytes of one page.
const PAGE: usize = 4 << 20;
/// The most bytes of a list.
const LIST: usize = 16 << 20;
/// The most pages of a list.
const PAGES: usize = 1000;
/// The most tags of a repository.
const TAGS: usize = 100_000;
/// The most referrers of a manifest.
const REFERRERS: usize = 10_000;

#[derive(Deserialize)]
struct TagPage {
    name: Option<String>,
    /// `None` if the page lacks it.
    #[serde(default, deserialize_with = "or_none")]
    tags: Option<Vec<String>>,
}

/// Reads a list, and null as an empty list, because some upstreams send that.
fn or_none<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    Option::<Vec<T>>::deserialize(from).map(|list| Some(list.unwrap_or_default()))
}

/// An index of referrers: distribution specification, "Listing Referrers".
#[derive(Deserialize)]
struct ReferrerPage {
    // Each entry is read by itself, so that a bad one hides no others. `None` if the page lacks them.
    #[serde(default, deserialize_with = "or_none")]
    manifests: Option<Vec<serde_json::Value>>,
}

/// One referrer in the index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl From<Descriptor> for Referrer {
    fn from(Descriptor { media_type, digest, size, artifact_type, annotations }: Descriptor) -> Self {
        Self { manifest: ManifestRecord { media_type, digest, size }, artifact_type, annotations }
    }
}

impl Client {
    /// Every tag of a repository, in the order in which they are sent. An invalid tag is left out.
    pub(crate) async fn tags(&self, repository: &str) -> Result<Vec<Tag>, Failure> {
        let mut tags = Vec::new();
        let path = format!("{repository}/tags/list?n=1000");
        self.pages(repository, &path, HeaderMap::new(), |page| {
            let page: TagPage = read(page, "list of tags")?;
            // Without this check, any other JSON object would count as an empty list.
            if page.name.is_none() && page.tags.is_none() {
                return Err(Failure::Wrong("a list of tags that has neither a name nor tags".to_owned()));
            }
            tags.extend(page.tags.unwrap_or_default().into_iter().filter_map(|text| text.parse().ok()));
            within(tags.len(), TAGS, "tags")
        })
        .await?;
        Ok(tags)
    }

    /// The referrers of a manifest. [`Failure::Absent`] if the upstream has no such endpoint.
    pub(crate) async fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, Failure> {
        let mut found = Vec::new();
        let accept = HeaderValue::from_static(hab_oci::media_type::IMAGE_INDEX);
        let path = format!("{repository}/referrers/{subject}");
        self.pages(repository, &path, HeaderMap::from_iter([(ACCEPT, accept)]), |page| {
            found.extend(entries(page)?);
            within(found.len(), REFERRERS, "referrers")
        })
        .await?;
        Ok(found)
    }

    /// The referrers of a manifest at an upstream without that endpoint: the index that clients keep at the tag
    /// `sha256-<hex>` (distribution specification, "Referrers Tag Schema").
    pub(crate) async fn referrers_by_tag(
        &self,
        repository: &str,
        subject: &Digest,
        limit: usize,
    ) -> Result<Vec<Referrer>, Failure> {
        let tag = format!("{}-{}", subject.algorithm().name(), subject.hex());
        match self.manifest(repository, &tag, limit).await {
            Ok(raw) => {
                let found = entries(&raw.bytes)?;
                within(found.len(), REFERRERS, "referrers").map(|()| found)
            }
            Err(Failure::Absent) => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    /// Reads all pages, in the time that a list may take.
    async fn pages(
        &self,
        repository: &str,
        path: &str,
        headers: HeaderMap,
        each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let slow = |_| Failure::away("the list took too long");
        timeout(self.config.patience.small, self.follow(repository, path, headers, each))
            .await
            .map_err(slow)?
    }

    async fn follow(
        &self,
        repository: &str,
        path: &str,
        headers: HeaderMap,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let first = self.url(path)?;
        let mut url = first.clone();
        let mut room = LIST;
        for _ in 0..PAGES {
            let response = self.ask(Method::GET, url.clone(), repository, headers.clone()).await?;
            let link = response.headers().get(LINK).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let page = self.whole(response, PAGE).await?;
            room = room
                .checked_sub(page.len())
                .ok_or_else(|| Failure::Wrong(format!("a list of more than {LIST} bytes")))?;
            each(&page)?;
            let Some(next) = link.as_deref().and_then(next) else { return Ok(()) };
            let next = url.join(next).ok().filter(|next| same_list(&first, next) && *next != url);
            url = next.ok_or_else(|| Failure::Wrong("its next page is not part of this list".to_owned()))?;
        }
        Err(Failure::Wrong(format!("a list of more than {PAGES} pages")))
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|_| Failure::Wrong(format!("it is not a {what}")))
}

fn entries(bytes: &[u8]) -> Result<Vec<Referrer>, Failure> {
    let page: ReferrerPage = read(bytes, "list of referrers")?;
    // Without this check, any other JSON object would count as an empty list, which says that there are no signatures.
    let manifests = page
        .manifests
        .ok_or_else(|| Failure::Wrong("it is not a list of referrers: it lacks manifests".to_owned()))?;
    let read = manifests.into_iter().map(serde_json::from_value::<Descriptor>);
    Ok(read.filter_map(Result::ok).map(Referrer::from).collect())
}

fn within(count: usize, most: usize, what: &str) -> Result<(), Failure> {
    if count > most { Err(Failure::Wrong(format!("more than {most} {what}"))) } else { Ok(()) }
}

/// The address of the next page, from a `Link` header (RFC 8288).
fn next(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').split(' ').any(|word| word.eq_ignore_ascii_case("next"))
        });
        is_next.then(|| target.trim().strip_prefix('<'))?
    })
}

/// Whether a next page has the origin and path of the first one: a token goes with the request, so it must go nowhere
/// else.
fn same_list(first: &Url, next: &Url) -> bool {
    first.origin() == next.origin() && first.path() == next.path()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        for (header, found) in [
            ("</v2/a/tags/list?n=2&last=b>; rel=\"next\"", Some("/v2/a/tags/list?n=2&last=b")),
            ("<x>; rel=prev, <y>;title=\"t\"; REL=Next", Some("y")),
            ("<x>; rel=\"first next\"", Some("x")),
            ("<x>; rel=nextish", None),
            ("x; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next(header), found, "{header}");
        }
    }

    #[test]
    fn a_next_page_on_another_host_or_path_is_not_of_the_list() {
        let first: Url = "https://r.invalid/v2/a/tags/list?n=1".parse().unwrap();
        for (link, same) in [
            ("/v2/a/tags/list?n=1&last=b", true),
            ("?last=b", true),
            ("https://r.invalid/v2/a/tags/list?last=b", true),
            ("//other.invalid/v2/a/tags/list?last=b", false),
            ("http://r.invalid/v2/a/tags/list?last=b", false),
            ("https://r.invalid:444/v2/a/tags/list?last=b", false),
            ("/v2/b/tags/list?last=b", false),
        ] {
            assert_eq!(same_list(&first, &first.join(link).unwrap()), same, "{link}");
        }
    }

    proptest! {
        #[test]
        fn headers_from_outside_never_panic(text in "[<>;=,\" a-z/?]{0,60}") {
            let _ = next(&text);
        }
    }
}
