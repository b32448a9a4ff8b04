//! A package of any bytes: what is found lies within it.
#![no_main]
#![allow(missing_docs)]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let length = bytes.len() as u64;
    if let Ok(span) = hab_archive::deb::data(&mut &*bytes, length) {
        assert!(span.offset.checked_add(span.size).is_some_and(|end| end <= length));
    }
});
