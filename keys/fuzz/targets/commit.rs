//! A git commit of any bytes, under its right id: never a good signature without a certificate, and never a panic.
#![no_main]
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::LazyLock;
use std::time::SystemTime;

use git2::{ObjectType, Oid};
use hab_keys::{Certificates, Examined, Judge, Policy, Verdict};

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let text = include_str!("../../trust/electrs/policy.toml");
    Policy::parse("electrs", text).unwrap()
});
static NONE: LazyLock<Certificates> = LazyLock::new(Certificates::default);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(id) = Oid::hash_object(ObjectType::Commit, bytes) else { return };
    let judge = Judge::new(&POLICY, &NONE, SystemTime::UNIX_EPOCH);
    if let Ok(examined) = Examined::commit(&id.to_string(), bytes, &judge) {
        assert!(examined.signatures.iter().all(|s| s.verdict != Verdict::Good));
    }
});
