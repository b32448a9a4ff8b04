//! Repository names, tags and digests of any text: what reads is written back the same, and is no way out of a folder.
#![no_main]
#![allow(missing_docs)]

use hab_oci::{Digest, RepositoryName, Tag, TagOrDigest};
use hab_registry_fuzz::text;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = text(bytes);
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert_eq!(name.as_str(), text);
        assert!(text.len() <= 255 && text.split('/').all(|part| !part.is_empty() && !part.starts_with('.')));
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
        assert!(text.len() <= 128 && !text.contains(['/', ':', '@']));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert!(digest.hex().bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    }
    match text.parse() {
        Ok(TagOrDigest::Tag(tag)) => assert_eq!(tag.as_str(), text),
        Ok(TagOrDigest::Digest(digest)) => assert_eq!(digest.to_string(), text),
        Err(_) => {}
    }
});
