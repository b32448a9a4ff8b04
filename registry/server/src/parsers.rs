//! Parsers of clients' texts, exposed only for the fuzz targets of `registry/fuzz`.

use axum::http::Uri;
use hab_oci::{Digest, Tag};
use hab_store::Named;

use crate::range::{Piece, Wanted};
use crate::route::{Endpoint, Route};

/// The parts of a blob of `size` bytes that a `Range` asks for; `None` for all of it.
pub fn range(header: &str, size: u64) -> Option<Vec<(u64, u64)>> {
    match Wanted::of(Some(header), size) {
        Wanted::All => None,
        Wanted::Nothing => Some(Vec::new()),
        Wanted::One(part) => Some(vec![(part.first, part.last)]),
        Wanted::Several(parts) => Some(parts.iter().map(|part| (part.first, part.last)).collect()),
    }
}

/// The digests that an `If-None-Match` names.
pub fn condition(header: &str) -> Vec<Digest> {
    let Ok(value) = header.parse() else { return Vec::new() };
    let headers = axum::http::HeaderMap::from_iter([(axum::http::header::IF_NONE_MATCH, value)]);
    match crate::conditions::expected(&headers).is_not {
        Some(Named::These(digests)) => digests,
        Some(Named::Any) | None => Vec::new(),
    }
}

/// Where a chunk of an upload begins, and how long it is.
pub fn piece(header: &str) -> Option<(u64, u64)> {
    Piece::of(header).map(|piece| (piece.first, piece.length))
}

/// The repository and the endpoint that a path names.
pub fn route(path: &str) -> Option<(String, String)> {
    let Ok(Route::Repository(name, endpoint)) = Route::of_path(path) else { return None };
    let rest = match endpoint {
        Endpoint::Manifest(reference) => format!("manifests/{reference}"),
        Endpoint::Blob(digest) => format!("blobs/{digest}"),
        Endpoint::Uploads => "blobs/uploads/".to_owned(),
        Endpoint::Upload(id) => format!("blobs/uploads/{id}"),
        Endpoint::Tags => "tags/list".to_owned(),
        Endpoint::Referrers(digest) => format!("referrers/{digest}"),
    };
    Some((name.to_string(), rest))
}

/// The tags that a push by digest asks for.
pub fn tags(uri: &str) -> Option<Vec<Tag>> {
    crate::manifests::tags_of(&uri.parse::<Uri>().ok()?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_path_that_reads_is_written_back_the_same(
            path in "/v2/[a-c/_.-]{1,8}/(manifests|blobs|blobs/uploads|tags|referrers)/(list|v1|sha256(:|%3A|%3a)[0-9a-f]{64}|.{0,9})"
        ) {
            if let Some((name, rest)) = route(&path) {
                prop_assert_eq!(route(&format!("/v2/{name}/{rest}")), Some((name, rest)));
            }
        }

        #[test]
        fn tags_of_a_push_are_sorted_and_each_is_one(query in "(tag=[a-z.%0-9-]{0,5}&?|[a-z]=x&?){0,9}") {
            if let Some(tags) = tags(&format!("/v2/a/manifests/x?{query}")) {
                prop_assert!(tags.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(tags.len() <= query.matches("tag=").count());
            }
        }
    }
}
