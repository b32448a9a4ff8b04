//! Lists in pages: `n`, `last` and `Link` (distribution specification, "Listing Tags").

use axum::http::{HeaderValue, Uri};
use serde::Deserialize;

use crate::error::Error;
use crate::http::query;

/// The part of a list that a request asks for.
pub(crate) struct Page {
    /// The most entries.
    pub(crate) n: u32,
    /// The entry after which the page begins.
    pub(crate) last: Option<String>,
}

#[derive(Deserialize)]
struct PageQuery {
    n: Option<String>,
    last: Option<String>,
}

impl Page {
    /// Reads the query. A page has at most `most` entries, however many are asked for.
    pub(crate) fn of(uri: &Uri, most: u32) -> Result<Self, Error> {
        let PageQuery { n, last } = query(uri)?;
        let n = match n {
            None => most,
            // A number of any length is valid: one that does not fit into `u32` is more than `most` anyway.
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse::<u32>().unwrap_or(u32::MAX).min(most)
            }
            Some(_) => return Err(Error::PageSize),
        };
        Ok(Self { n, last })
    }
}

/// The link to the next page: the same list after `last`. Other parameters of the query stay: `ns`, `artifactType`.
pub(crate) fn next(uri: &Uri, n: Option<u32>, last: &str) -> Option<HeaderValue> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        if name != "n" && name != "last" {
            query.append_pair(&name, &value);
        }
    }
    if let Some(n) = n {
        query.append_pair("n", &n.to_string());
    }
    query.append_pair("last", last);
    HeaderValue::try_from(format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish())).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn n(query: &str) -> Option<u32> {
        Page::of(&format!("/v2/a/tags/list?{query}").parse().unwrap(), 1000).ok().map(|page| page.n)
    }

    #[test]
    fn a_number_of_any_length_is_a_number_and_nothing_else_is() {
        for (text, found) in [
            ("", Some(1000)),
            ("n=2", Some(2)),
            ("n=0", Some(0)),
            ("n=00002", Some(2)),
            ("n=1001", Some(1000)),
            ("n=4294967296", Some(1000)),
            ("n=99999999999999999999999999999999", Some(1000)),
            ("n=", None),
            ("n=-1", None),
            ("n=%2B1", None),
            ("n=1.0", None),
            ("n=x", None),
        ] {
            assert_eq!(n(text), found, "{text}");
        }
    }

    #[test]
    fn the_next_page_is_of_the_same_list() {
        for (uri, number, said) in [
            ("/v2/a/tags/list?n=2", Some(2), "</v2/a/tags/list?n=2&last=v1>; rel=\"next\""),
            (
                "/v2/a/tags/list?last=v0&ns=docker.io&n=9",
                Some(5),
                "</v2/a/tags/list?ns=docker.io&n=5&last=v1>; rel=\"next\"",
            ),
            ("/v2/a/r?artifactType=a%2Fb&last=x", None, "</v2/a/r?artifactType=a%2Fb&last=v1>; rel=\"next\""),
        ] {
            assert_eq!(next(&uri.parse().unwrap(), number, "v1").unwrap(), said);
        }
    }
}
