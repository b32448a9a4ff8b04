//! What a key server answers, of any bytes: never a panic, and what is taken of it is taken the same way again.
#![no_main]
#![allow(missing_docs)]

use hab_keys::Certificates;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let found = Certificates::answered(bytes, |_| true);
    let again = found.clone().slimmed();
    assert!(found.news(&again).is_empty() && again.news(&found).is_empty());
});
