//! A manifest of any bytes, sent as each type: what reads has valid digests, and says what it is in one way only.
#![no_main]
#![allow(missing_docs)]

use hab_oci::{EdgeKind, Outline, media_type};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let types = [
        media_type::IMAGE_MANIFEST,
        media_type::DOCKER_MANIFEST,
        media_type::IMAGE_INDEX,
        media_type::DOCKER_MANIFEST_LIST,
    ];
    let read: Vec<_> = types.iter().filter_map(|kind| Outline::read(kind, bytes).ok()).collect();
    // Docker's or OCI's, but never an image and an index at once.
    assert!(read.iter().all(|outline| {
        let index = [media_type::IMAGE_INDEX, media_type::DOCKER_MANIFEST_LIST].contains(&outline.media_type);
        outline.edges.iter().all(|edge| match edge.kind {
            EdgeKind::Config => !index,
            EdgeKind::Layer => edge.listed || !index,
            EdgeKind::Manifest => index && edge.listed,
            EdgeKind::Subject => outline.subject.as_ref() == Some(&edge.digest),
        })
    }));
    if !read.is_empty() {
        assert!(std::str::from_utf8(bytes).is_ok());
        let said = Outline::media_type_within(bytes);
        assert!(said.is_none_or(|said| read.iter().all(|outline| outline.media_type == said)));
    }
});
