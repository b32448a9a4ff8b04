//! Several ranges in one answer: multipart/byteranges (RFC 9110, section 14.6).

use std::fs::File;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::chunks::Chunks;
use crate::range::Part;

/// The media type, with the boundary. It never has to be told apart from content: every part says its length.
pub(crate) const TYPE: &str = "multipart/byteranges; boundary=hab-build-part";
const END: &str = "\r\n--hab-build-part--\r\n";

fn head(part: Part, size: u64) -> String {
    format!(
        "\r\n--hab-build-part\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
        part.said(size)
    )
}

/// How many bytes the answer has.
pub(crate) fn length(parts: &[Part], size: u64) -> u64 {
    let one = |part: &Part| head(*part, size).len() as u64 + part.length();
    parts.iter().map(one).sum::<u64>() + END.len() as u64
}

/// The answer.
pub(crate) fn send(file: File, parts: Vec<Part>, size: u64) -> Body {
    let file = Arc::new(file);
    let text = |text: String| stream::once(async move { Ok::<_, io::Error>(Bytes::from(text)) });
    let part = move |part: Part| {
        text(head(part, size)).chain(Chunks::new(file.clone(), part.first, part.length())).boxed()
    };
    Body::from_stream(stream::iter(parts).flat_map(part).chain(text(END.to_owned())))
}
