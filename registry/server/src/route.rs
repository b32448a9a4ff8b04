//! Parses a path into an endpoint, by hand: a repository's name has slashes in it, and may even contain the words
//! `blobs` or `manifests`, so the path is read from its end.

use hab_oci::{Digest, RepositoryName};

use crate::error::Error;

/// An endpoint of the distribution specification, "Endpoints".
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/` (end-1).
    Base,
    /// `/v2/_catalog`. No repository's name begins with an underscore.
    Catalog,
    /// An endpoint of a repository.
    Repository(RepositoryName, Endpoint),
}

/// The endpoint of a repository that a path names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `manifests/<reference>` (end-3, end-7, end-9). Not parsed here: whether a bad reference is unknown or invalid
    /// depends on the method.
    Manifest(String),
    /// `blobs/<digest>` (end-2, end-10).
    Blob(Digest),
    /// `blobs/uploads/` (end-4, end-11).
    Uploads,
    /// `blobs/uploads/<id>` (end-5, end-6, end-13, end-14).
    Upload(String),
    /// `tags/list` (end-8).
    Tags,
    /// `referrers/<digest>` (end-12).
    Referrers(Digest),
}

impl Route {
    pub(crate) fn of_path(path: &str) -> Result<Self, Error> {
        // Of the characters that names and digests may have, and the plus of a chart's version, these may be escaped.
        let path = path.replace("%3A", ":").replace("%3a", ":").replace("%2B", "+").replace("%2b", "+");
        let rest = match path.strip_prefix("/v2").map(|rest| rest.strip_prefix('/').unwrap_or(rest)) {
            Some("") => return Ok(Self::Base),
            Some("_catalog") => return Ok(Self::Catalog),
            Some(rest) => rest,
            None => return Err(Error::NoEndpoint),
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (name, endpoint) = match parts.as_slice() {
            [name @ .., "blobs", "uploads", ""] | [name @ .., "blobs", "uploads"] => {
                (name, Endpoint::Uploads)
            }
            [name @ .., "blobs", "uploads", id] => (name, Endpoint::Upload((*id).to_owned())),
            [name @ .., "blobs", digest] => (name, Endpoint::Blob(digest.parse()?)),
            [name @ .., "manifests", reference] => (name, Endpoint::Manifest((*reference).to_owned())),
            [name @ .., "referrers", digest] => (name, Endpoint::Referrers(digest.parse()?)),
            [name @ .., "tags", "list"] => (name, Endpoint::Tags),
            _ => return Err(Error::NoEndpoint),
        };
        let name = name.join("/").parse().map_err(Error::Name)?;
        Ok(Self::Repository(name, endpoint))
    }
}

impl Route {
    /// One word for metrics and logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Repository(_, endpoint) => match endpoint {
                Endpoint::Manifest(_) => "manifest",
                Endpoint::Blob(_) => "blob",
                Endpoint::Uploads => "uploads",
                Endpoint::Upload(_) => "upload",
                Endpoint::Tags => "tags",
                Endpoint::Referrers(_) => "referrers",
            },
        }
    }

    pub(crate) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Repository(name, _) => Some(name),
        }
    }

    /// The tag or digest that the path names. Not an upload's id, because anyone who knows it may write to the upload.
    pub(crate) fn reference(&self) -> Option<String> {
        let Self::Repository(_, endpoint) = self else { return None };
        match endpoint {
            Endpoint::Manifest(reference) => Some(reference.clone()),
            Endpoint::Blob(digest) | Endpoint::Referrers(digest) => Some(digest.to_string()),
            Endpoint::Uploads | Endpoint::Upload(_) | Endpoint::Tags => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(path: &str) -> (String, Endpoint) {
        match Route::of_path(path).unwrap() {
            Route::Repository(name, endpoint) => (name.to_string(), endpoint),
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn every_endpoint_is_found_below_names_of_any_depth() {
        let d = Digest::of(b"");
        for name in ["a", "a/b/c", "a/blobs/b", "manifests/tags", "blobs/uploads"] {
            let of = |tail: &str| route(&format!("/v2/{name}/{tail}"));
            let name = name.to_owned();
            assert_eq!(of("manifests/v1"), (name.clone(), Endpoint::Manifest("v1".into())));
            assert_eq!(of(&format!("blobs/{d}")), (name.clone(), Endpoint::Blob(d.clone())));
            let escaped = d.to_string().replace(':', "%3A");
            assert_eq!(of(&format!("blobs/{escaped}")), (name.clone(), Endpoint::Blob(d.clone())));
            assert_eq!(of("blobs/uploads/"), (name.clone(), Endpoint::Uploads));
            assert_eq!(of("blobs/uploads/x"), (name.clone(), Endpoint::Upload("x".into())));
            assert_eq!(of("tags/list"), (name.clone(), Endpoint::Tags));
            assert_eq!(of(&format!("referrers/{d}")), (name, Endpoint::Referrers(d.clone())));
        }
        assert_eq!(Route::of_path("/v2/_catalog").unwrap(), Route::Catalog);
        assert_eq!(Route::of_path("/v2/").unwrap(), Route::Base);
        assert_eq!(Route::of_path("/v2").unwrap(), Route::Base);
    }

    #[test]
    fn what_is_no_endpoint_or_no_name_is_refused() {
        for bad in ["/", "/v1/", "/v2/a", "/v2/a/b", "/v2/a/tags", "/v2/a/tags/list/"] {
            assert!(matches!(Route::of_path(bad), Err(Error::NoEndpoint)), "{bad}");
        }
        for bad in ["/v2/A/tags/list", "/v2/../tags/list", "/v2//tags/list", "/v2/a/%2e%2e/tags/list"] {
            assert!(matches!(Route::of_path(bad), Err(Error::Name(_))), "{bad}");
        }
        assert!(matches!(Route::of_path("/v2/a/blobs/sha256:zz"), Err(Error::Digest(_))));
    }

    proptest! {
        #[test]
        fn paths_from_outside_never_panic(path in "/v2/[a-z/:.%]{0,60}") {
            let _ = Route::of_path(&path);
        }
    }
}
