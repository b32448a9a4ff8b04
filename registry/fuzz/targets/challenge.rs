//! `WWW-Authenticate` and `If-None-Match` of any text: what reads has a realm, or digests, that stand in the header.
#![no_main]
#![allow(missing_docs)]

use hab_registry::parsers::condition;
use hab_registry_fuzz::text;
use hab_upstream::parsers::challenge;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = text(bytes);
    for value in challenge(text) {
        assert!(value.len() <= text.len());
    }
    for digest in condition(text) {
        assert!(text.contains(&digest.to_string()));
    }
});
