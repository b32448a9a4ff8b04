//! A policy, ready to judge by.

use hab_keys::{Certificates, Policy};

/// A policy and the certificates of the keys that it pins.
pub struct LoadedPolicy {
    /// The policy.
    pub policy: Policy,
    /// The certificates of its keys.
    pub certificates: Certificates,
}
