//! `Range` and `Content-Range` of any text: every part is within the blob, and all together are no more than it.
#![no_main]
#![allow(missing_docs)]

use hab_registry::parsers;
use hab_registry_fuzz::text;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((size, rest)) = bytes.split_first_chunk() else { return };
    // Large blobs are rare, and small ones are where ends meet.
    let size = u64::from_le_bytes(*size) >> (rest.len() % 64);
    let text = text(rest);
    if let Some(parts) = parsers::range(text, size) {
        assert!(parts.iter().all(|(first, last)| first <= last && *last < size));
        assert!(
            parts.iter().map(|(first, last)| u128::from(last - first) + 1).sum::<u128>() <= u128::from(size)
        );
    }
    if let Some((first, length)) = parsers::piece(text) {
        assert!(length > 0 && first.checked_add(length - 1).is_some());
    }
});
