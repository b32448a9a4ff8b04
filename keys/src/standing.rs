//! What a key is worth now, without a signature of it at hand.

use std::time::{Duration, SystemTime};

use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::RevocationStatus;
use serde::Serialize;

use crate::judge::rfc3339;
use crate::{Certificates, KeyId};

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Standing {
    /// It can sign.
    Alive {
        /// Until when all its signing keys can, RFC 3339; none for ever.
        expires: Option<String>,
    },
    /// Nothing of it can sign any more.
    Expired {
        /// Since when, RFC 3339; none when its certificate does not say.
        since: Option<String>,
    },
    /// Its owner, or somebody with its key, took it back.
    Revoked,
    /// Its certificate cannot be used.
    Unusable {
        /// Why.
        why: String,
    },
    /// There is no certificate of it here.
    Missing,
    /// An SSH key, which needs none and does not expire.
    Ssh,
}

impl Standing {
    /// What `certificates` say of `id` at `now`.
    pub fn of(id: &KeyId, certificates: &Certificates, now: SystemTime) -> Self {
        let KeyId::OpenPgp(fingerprint) = id else { return Self::Ssh };
        let Some(cert) = certificates.get(fingerprint) else { return Self::Missing };
        let policy = StandardPolicy::new();
        if matches!(cert.revocation_status(&policy, now), RevocationStatus::Revoked(_)) {
            return Self::Revoked;
        }
        let valid = match cert.with_policy(&policy, now) {
            Ok(valid) => valid,
            Err(e) => return Self::Unusable { why: e.root_cause().to_string() },
        };
        let primary = valid.primary_key().key_expiration_time();
        // The certificate's own expiry ends all of its subkeys.
        let ends = |end: Option<SystemTime>| match (end, primary) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let signing: Vec<_> =
            valid.keys().revoked(false).for_signing().map(|ka| ends(ka.key_expiration_time())).collect();
        if signing.is_empty() {
            return Self::Unusable { why: "none of its keys may sign".to_owned() };
        }
        // As long as any of them can sign, the key can.
        let last = if signing.contains(&None) { None } else { signing.into_iter().flatten().max() };
        match last {
            Some(end) if end <= now => Self::Expired { since: Some(rfc3339(end)) },
            last => Self::Alive { expires: last.map(rfc3339) },
        }
    }

    /// What a person should look at, and whether it stands in the way of accepting something now.
    pub fn finding(&self, now: SystemTime, soon: Duration) -> Option<(String, bool)> {
        match self {
            Self::Alive { expires: Some(expires) } => {
                let end = SystemTime::from(expires.parse::<jiff::Timestamp>().ok()?);
                (end < now + soon).then(|| (format!("expires {expires}"), false))
            }
            Self::Alive { expires: None } | Self::Ssh => None,
            Self::Expired { .. } | Self::Revoked | Self::Unusable { .. } | Self::Missing => {
                Some((self.to_string(), true))
            }
        }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alive { expires: Some(expires) } => write!(f, "expires {expires}"),
            Self::Alive { expires: None } => f.write_str("does not expire"),
            Self::Expired { since: Some(since) } => write!(f, "expired {since}"),
            Self::Expired { since: None } => f.write_str("expired"),
            Self::Revoked => f.write_str("revoked"),
            Self::Unusable { why } => write!(f, "unusable: {why}"),
            Self::Missing => f.write_str("pinned, certificate missing"),
            Self::Ssh => f.write_str("SSH key"),
        }
    }
}
