//! A cache of answers that are valid as long as the catalog does not change.
//!
//! A cluster asks for the same few manifests all the time. For each answer, the catalog is asked whether any process
//! committed a change since; one look serves all requests that wait for it. So a cached answer is never older than the
//! last commit.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hab_oci::Digest;
use hab_store::Version;

/// The most bytes of cached manifests; beyond this, the whole cache is emptied.
const MOST: usize = 8 << 20;
/// About how many bytes an answer takes beside its manifest.
const BESIDE: usize = 1 << 10;

/// A manifest, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct CachedManifest {
    pub(crate) digest: Digest,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl CachedManifest {
    pub(crate) fn to(&self, method: &Method) -> Response {
        let body = if method == Method::HEAD { Body::empty() } else { Body::from(self.bytes.clone()) };
        (self.headers.clone(), body).into_response()
    }
}

/// The cached answers, by request.
#[derive(Debug, Default)]
pub(crate) struct ManifestCache {
    /// Held for map operations.
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    version: Version,
    bytes: usize,
    map: HashMap<String, CachedManifest>,
}

impl ManifestCache {
    /// The answer that was cached at this version of the catalog, or at a later one that another request has seen.
    pub(crate) fn get(&self, version: Version, asked: &str) -> Option<CachedManifest> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.version < version {
            *answers = Answers { version, ..Answers::default() };
        }
        answers.map.get(asked).cloned()
    }

    /// Caches an answer that was looked up after the catalog had this version.
    pub(crate) fn put(&self, version: Version, asked: String, answer: CachedManifest) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.version != version {
            return;
        }
        let bytes = answer.bytes.len() + asked.len() + BESIDE;
        if answers.bytes + bytes > MOST {
            *answers = Answers { version, ..Answers::default() };
        }
        answers.bytes += bytes;
        answers.map.insert(asked, answer);
    }
}
