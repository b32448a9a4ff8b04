//! What the fuzz targets share: a judge with a shipped policy and without a certificate, who can find nothing good.

use std::sync::LazyLock;
use std::time::SystemTime;

use git2::{ObjectType, Oid};
use hab_keys::{Certificates, Examined, Judge, Policy, Refusal, Verdict};

static NONE: LazyLock<Certificates> = LazyLock::new(Certificates::default);
static ELECTRS: LazyLock<Policy> =
    LazyLock::new(|| policy("electrs", include_str!("../../trust/electrs/policy.toml")));
static DEBIAN: LazyLock<Policy> =
    LazyLock::new(|| policy("debian", include_str!("../../trust/debian/policy.toml")));

fn policy(name: &str, text: &str) -> Policy {
    match Policy::parse(name, text) {
        Ok(policy) => policy,
        Err(e) => panic!("{e}"),
    }
}

/// A judge of archives.
pub fn debian() -> Judge<'static> {
    Judge::new(&DEBIAN, &NONE, SystemTime::UNIX_EPOCH)
}

/// Looks at an object under its right id; whatever it is, no signature in it is good.
///
/// # Panics
/// When one is, which is what a fuzzer looks for.
pub fn nothing_is_good(
    kind: ObjectType,
    bytes: &[u8],
    examine: impl Fn(&str, &[u8], &Judge<'_>) -> Result<Examined, Refusal>,
) {
    let Ok(id) = Oid::hash_object(kind, bytes) else { return };
    let judge = Judge::new(&ELECTRS, &NONE, SystemTime::UNIX_EPOCH);
    if let Ok(examined) = examine(&id.to_string(), bytes, &judge) {
        assert!(examined.signatures.iter().all(|s| s.verdict != Verdict::Good));
    }
}
