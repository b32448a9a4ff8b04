//! Makefiles of any bytes: the evaluator ends, and whatever it finds has a file's name and a valid digest.
#![no_main]
#![allow(missing_docs)]

use std::collections::BTreeMap;

use hab_mirror::depends::{is_file_name, of_platform};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The first piece is the Makefile, the others are what it may include.
    let mut pieces = bytes.split(|b| *b == 0);
    let mut files = BTreeMap::new();
    for (name, piece) in
        ["Makefile", "packages/packages.mk", "packages/a.mk", "hosts/default.mk"].iter().zip(&mut pieces)
    {
        files.insert((*name).to_owned(), piece.to_vec());
    }
    let (Ok(host), Ok(build)) = ("x86_64-linux-gnu".parse(), "x86_64-pc-linux-gnu".parse()) else { return };
    if let Ok(sources) = of_platform(&files, &host, &build, &BTreeMap::new()) {
        assert!(sources.iter().all(|source| is_file_name(&source.file)));
    }
});
