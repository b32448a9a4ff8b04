//! Compressed data of any bytes: no decompressor gives more than it may.
#![no_main]
#![allow(missing_docs)]

use hab_archive::{Compression, decompress};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for compression in [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd] {
        if let Ok(document) = decompress(compression, bytes, 1 << 16) {
            assert!(document.len() <= 1 << 16);
        }
    }
});
