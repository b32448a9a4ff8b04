//! policy.toml of any text: what reads demands something.
#![no_main]
#![allow(missing_docs)]

use std::collections::BTreeSet;

use hab_keys::Policy;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(policy) = Policy::parse("p", text) {
        assert!(!policy.accept().met_by(&BTreeSet::new()));
        let quorums = policy.requirements().filter_map(|r| r.rule.quorum());
        assert!(quorums.into_iter().all(|q| q.threshold > 0));
    }
});
