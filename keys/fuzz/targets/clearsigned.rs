//! A clearsigned message, and a detached signature, of any bytes: never accepted here, and never a panic.
#![no_main]
#![allow(missing_docs)]

use hab_keys::VerifiedFile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let judge = hab_keys_fuzz::debian();
    assert!(VerifiedFile::clearsigned("f", bytes, &judge).is_err());
    assert!(VerifiedFile::detached("f", b"content", ("s", bytes), &judge).is_err());
});
