//! Conditional requests: `If-Match` and `If-None-Match` (RFC 9110, section 13).
//!
//! The entity tag of content is its digest in quotes. Content has no date of change, so conditions that name a date are
//! ignored, as sections 13.1.3 and 13.1.4 demand.

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use hab_oci::Digest;
use hab_store::{Expected, Named};

use crate::error::Error;
use crate::http::{CONTENT_DIGEST, empty};

/// The conditions that a request's headers state.
pub(crate) fn expected(headers: &HeaderMap) -> Expected {
    Expected {
        // A weak tag never matches here: all tags of this service are strong (section 8.8.3.2).
        is: named(headers, &header::IF_MATCH, false),
        is_not: named(headers, &header::IF_NONE_MATCH, true),
    }
}

/// The answer to a GET or a HEAD that the conditions demand instead of the content: 304, or [`Error::Precondition`].
pub(crate) fn instead(headers: &HeaderMap, digest: &Digest) -> Result<Option<Response>, Error> {
    // Most requests have neither.
    if !headers.contains_key(header::IF_MATCH) && !headers.contains_key(header::IF_NONE_MATCH) {
        return Ok(None);
    }
    let expected = expected(headers);
    if !expected.is_met(Some(digest)) {
        return Err(Error::Precondition);
    }
    let same = [(header::ETAG, format!("\"{digest}\"")), (CONTENT_DIGEST, digest.to_string())];
    Ok(expected.is_barred(Some(digest)).then(|| empty(StatusCode::NOT_MODIFIED, same)))
}

/// The digests that all lines of a header name. Other entity tags are left out, since nothing here can match them.
fn named(headers: &HeaderMap, name: &HeaderName, weak: bool) -> Option<Named> {
    let lines: Vec<&str> =
        headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default().trim()).collect();
    if lines.is_empty() {
        return None;
    }
    if lines.contains(&"*") {
        return Some(Named::Any);
    }
    let mut digests = Vec::new();
    for line in lines {
        let mut rest = line;
        while let Some((tag, is_weak, behind)) = tag(rest) {
            rest = behind;
            digests.extend(tag.parse::<Digest>().ok().filter(|_| weak || !is_weak));
        }
    }
    Some(Named::These(digests))
}

/// The first tag of a list, whether it is weak, and the rest of the list. Some clients forget the quotes.
fn tag(list: &str) -> Option<(&str, bool, &str)> {
    let list = list.trim_start_matches([' ', '\t', ',']);
    if list.is_empty() {
        return None;
    }
    let (is_weak, body) = list.strip_prefix("W/").map_or((false, list), |body| (true, body));
    if let Some(quoted) = body.strip_prefix('"') {
        // Without a closing quote, the tag is all of the rest.
        let (tag, behind) = quoted.split_once('"').unwrap_or((quoted, ""));
        return Some((tag, is_weak, behind));
    }
    let (tag, behind) = body.split_once(',').unwrap_or((body, ""));
    Some((tag.trim(), is_weak, behind))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn with(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn tags_are_read_from_lists_of_several_lines_with_and_without_quotes() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let read = |lines: &[&str]| expected(&with(&header::IF_NONE_MATCH, lines)).is_not;
        let these = |digests: &[&Digest]| {
            Some(Named::These(digests.iter().map(|digest| (*digest).clone()).collect()))
        };
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["*"]), Some(Named::Any));
        assert_eq!(read(&["\"a, b\"", " * "]), Some(Named::Any));
        assert_eq!(read(&[&format!("\"{one}\"")]), these(&[&one]));
        assert_eq!(read(&[&format!("W/\"{one}\" ,\t\"x,\" , \"{two}\"")]), these(&[&one, &two]));
        assert_eq!(read(&[&format!("\"{one}\""), &format!("{two}")]), these(&[&one, &two]));
        for nothing in ["", ",,", "\"", "W/", "\"*\"", "sha256:zz", "\"unended"] {
            assert_eq!(read(&[nothing]), these(&[]), "{nothing}");
        }
    }

    #[test]
    fn a_weak_tag_is_the_same_only_where_a_copy_need_not_be_exact() {
        let digest = Digest::of(b"1");
        let weak = format!("W/\"{digest}\"");
        assert!(instead(&with(&header::IF_NONE_MATCH, &[&weak]), &digest).unwrap().is_some());
        assert!(matches!(instead(&with(&header::IF_MATCH, &[&weak]), &digest), Err(Error::Precondition)));
        assert!(instead(&with(&header::IF_MATCH, &["*"]), &digest).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn headers_from_outside_never_panic_and_come_to_an_end(text in "[W/\"*, a-z:\\t]{0,60}") {
            let _ = expected(&with(&header::IF_MATCH, &[&text]));
        }
    }
}
