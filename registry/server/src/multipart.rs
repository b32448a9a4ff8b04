//! Several ranges in one answer: multipart/byteranges (RFC 9110, section 14.6).

use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use hab_oci::Digest;

use crate::range::Part;

/// Hexadecimal digits of a boundary: 160 bits, and no more than 70 characters altogether (RFC 2046, section 5.1.1).
const DIGITS: usize = 40;

/// An answer with several parts of a blob.
pub(crate) struct Multipart {
    parts: Vec<Part>,
    size: u64,
    /// Made of the blob's own digest: clients search the bytes for it, and nobody can write a blob that contains it.
    boundary: String,
}

impl Multipart {
    pub(crate) fn new(parts: Vec<Part>, digest: &Digest, size: u64) -> Self {
        Self { parts, size, boundary: format!("hab-{}", &digest.hex()[..DIGITS]) }
    }

    /// The media type.
    pub(crate) fn kind(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// How many bytes the answer has.
    pub(crate) fn length(&self) -> u64 {
        let one = |part: &Part| self.head(*part).len() as u64 + part.length();
        self.parts.iter().map(one).sum::<u64>() + self.end().len() as u64
    }

    fn head(&self, part: Part) -> String {
        format!(
            "\r\n--{}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
            self.boundary,
            part.said(self.size)
        )
    }

    fn end(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }

    /// The answer's body, with the bytes that `read` gives.
    pub(crate) fn send(
        self,
        read: impl Fn(Part) -> BoxStream<'static, io::Result<Bytes>> + Send + 'static,
    ) -> Body {
        let text = |text: String| stream::once(async move { Ok::<_, io::Error>(Bytes::from(text)) });
        let (end, parts) = (self.end(), self.parts.clone());
        let part = move |part: Part| text(self.head(part)).chain(read(part)).boxed();
        Body::from_stream(stream::iter(parts).flat_map(part).chain(text(end)))
    }
}
