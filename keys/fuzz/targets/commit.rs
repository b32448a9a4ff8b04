//! A git commit of any bytes: never a good signature without a certificate, and never a panic.
#![no_main]
#![allow(missing_docs)]

use git2::ObjectType;
use hab_keys::Examined;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hab_keys_fuzz::nothing_is_good(ObjectType::Commit, bytes, Examined::commit);
});
