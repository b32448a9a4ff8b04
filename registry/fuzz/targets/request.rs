//! A path and a query of any text: a path that reads leads to one endpoint of a repository, written back the same.
#![no_main]
#![allow(missing_docs)]

use hab_registry::parsers;
use hab_registry_fuzz::text;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = text(bytes);
    let path = text.split('?').next().unwrap_or_default();
    if let Some((name, rest)) = parsers::route(path) {
        assert_eq!(parsers::route(&format!("/v2/{name}/{rest}")), Some((name, rest)));
    }
    if let Some(tags) = parsers::tags(text) {
        assert!(tags.windows(2).all(|pair| pair[0] < pair[1]));
    }
});
