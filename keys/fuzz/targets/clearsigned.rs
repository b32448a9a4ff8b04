//! A clearsigned message, and a detached signature, of any bytes: never accepted here, and never a panic.
#![no_main]
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::LazyLock;
use std::time::SystemTime;

use hab_keys::{Certificates, Judge, Policy, VerifiedFile};

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let text = include_str!("../../trust/debian/policy.toml");
    Policy::parse("debian", text).unwrap()
});
static NONE: LazyLock<Certificates> = LazyLock::new(Certificates::default);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let judge = Judge::new(&POLICY, &NONE, SystemTime::UNIX_EPOCH);
    assert!(VerifiedFile::clearsigned("f", bytes, &judge).is_err());
    assert!(VerifiedFile::detached("f", b"content", ("s", bytes), &judge).is_err());
});
