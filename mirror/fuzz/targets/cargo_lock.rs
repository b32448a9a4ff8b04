//! A Cargo.lock of any bytes: whatever crate it names has a name and a version that lead nowhere else.
#![no_main]
#![allow(missing_docs)]

use hab_mirror::cargo_lock;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(named) = cargo_lock::parse(text) {
        for krate in &named.crates {
            let line = krate.line_name();
            let parts: Vec<&str> = line.split(' ').collect();
            assert!(parts.len() == 2 && parts.iter().all(|part| !part.is_empty()));
            assert!(!line.contains('/') && !line.contains("..") && !line.contains(char::is_control));
        }
    }
});
