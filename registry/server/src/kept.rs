//! Answers that are given again for as long as the catalog is what it was.
//!
//! A cluster asks for the same few manifests all the time. Whether anything was committed since, by whichever process,
//! is asked of the catalog for each answer (one look serves all who wait for it), so nothing is ever served that a
//! moment before was not true.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hab_oci::Digest;
use hab_store::Version;

/// Bytes of manifests that are kept; when there are more, all of them go.
const MOST: usize = 8 << 20;
/// What an answer takes beside its manifest, about.
const BESIDE: usize = 1 << 10;

/// A manifest, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) digest: Digest,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn to(&self, method: &Method) -> Response {
        let body = if method == Method::HEAD { Body::empty() } else { Body::from(self.bytes.clone()) };
        (self.headers.clone(), body).into_response()
    }
}

/// The answers by what was asked.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Held for map operations.
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    version: Version,
    bytes: usize,
    map: HashMap<String, Answer>,
}

impl Kept {
    /// What was kept at this version, or at a later one that somebody else has seen by now.
    pub(crate) fn get(&self, version: Version, asked: &str) -> Option<Answer> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.version < version {
            *answers = Answers { version, ..Answers::default() };
        }
        answers.map.get(asked).cloned()
    }

    /// Keeps what was looked up after the catalog was this version.
    pub(crate) fn put(&self, version: Version, asked: String, answer: Answer) {
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
