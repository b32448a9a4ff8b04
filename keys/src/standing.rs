//! What a key is worth now, without a signature of it at hand.

use std::time::{Duration, SystemTime};

use sequoia_openpgp::Cert;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::RevocationStatus;
use serde::Serialize;

use crate::judge::rfc3339;
use crate::usable::{believing_sha1, unknown_algorithm, weak_self};
use crate::{Certificates, KeyId, Pin, Policy};

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Standing {
    /// It can sign.
    Alive {
        /// Until when all its signing keys can, RFC 3339; none for ever.
        expires: Option<String>,
        /// Until when the policy makes an exception for its certificate, RFC 3339: without that it would be unusable.
        #[serde(skip_serializing_if = "Option::is_none")]
        excepted: Option<String>,
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
    /// The pins of `policy` for which a certificate is worth looking for at `now`: it is not here; or has expired, as its
    /// owner may have extended it; or cannot be used, as a key server that leaves user ids out may have given half of one.
    pub fn wanting<'p>(policy: &'p Policy, certificates: &Certificates, now: SystemTime) -> Vec<&'p Pin> {
        let wants = |pin: &&Pin| {
            let standing = Self::of(&pin.id, certificates, now, Some(policy));
            matches!(standing, Self::Missing | Self::Expired { .. } | Self::Unusable { .. })
        };
        policy.pins().iter().filter(wants).collect()
    }

    /// What `certificates` say of `id` at `now`, under a policy that may make an exception for it.
    pub fn of(id: &KeyId, certificates: &Certificates, now: SystemTime, policy: Option<&Policy>) -> Self {
        let KeyId::OpenPgp(fingerprint) = id else { return Self::Ssh };
        let Some(cert) = certificates.get(fingerprint) else { return Self::Missing };
        let stamp = jiff::Timestamp::try_from(now).unwrap_or(jiff::Timestamp::MAX);
        let exception = policy.and_then(|policy| policy.weak_certificate(id, stamp));
        match (Self::by(cert, now, &StandardPolicy::new(), false), exception) {
            (Self::Unusable { .. }, Some(exception)) => match Self::by(cert, now, &believing_sha1(), true) {
                Self::Alive { expires, .. } => {
                    let until = jiff::Timestamp::to_string(&exception.until);
                    Self::Alive { expires, excepted: Some(until) }
                }
                other => other,
            },
            (standing, _) => standing,
        }
    }

    fn by(cert: &Cert, now: SystemTime, policy: &StandardPolicy<'_>, primary_only: bool) -> Self {
        if let Some(why) = unknown_algorithm(cert, &cert.fingerprint()) {
            return Self::Unusable { why };
        }
        if matches!(cert.revocation_status(policy, now), RevocationStatus::Revoked(_)) {
            return Self::Revoked;
        }
        let valid = match cert.with_policy(policy, now) {
            Ok(valid) => valid,
            Err(e) => {
                let why = match weak_self(cert) {
                    Some(hash) => format!("all that it says of itself is signed with {hash}"),
                    None => e.root_cause().to_string(),
                };
                return Self::Unusable { why };
            }
        };
        let primary = valid.primary_key().key_expiration_time();
        // The certificate's own expiry ends all of its subkeys.
        let ends = |end: Option<SystemTime>| match (end, primary) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let signing = valid.keys().revoked(false).for_signing();
        let signing: Vec<_> = signing
            .filter(|ka| !primary_only || ka.key().fingerprint() == cert.fingerprint())
            .map(|ka| ends(ka.key_expiration_time()))
            .collect();
        if signing.is_empty() {
            return Self::Unusable { why: "none of its keys may sign".to_owned() };
        }
        // As long as any of them can sign, the key can.
        let last = if signing.contains(&None) { None } else { signing.into_iter().flatten().max() };
        match last {
            Some(end) if end <= now => Self::Expired { since: Some(rfc3339(end)) },
            last => Self::Alive { expires: last.map(rfc3339), excepted: None },
        }
    }

    /// What a person should look at, and whether it stands in the way of accepting something now.
    pub fn finding(&self, now: SystemTime, soon: Duration) -> Option<(String, bool)> {
        match self {
            Self::Alive { expires: Some(expires), .. } => {
                let end = SystemTime::from(expires.parse::<jiff::Timestamp>().ok()?);
                (end < now + soon).then(|| (format!("expires {expires}"), false))
            }
            Self::Alive { expires: None, .. } | Self::Ssh => None,
            Self::Expired { .. } | Self::Revoked | Self::Unusable { .. } | Self::Missing => {
                Some((self.to_string(), true))
            }
        }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alive { expires, excepted } => {
                match expires {
                    Some(expires) => write!(f, "expires {expires}")?,
                    None => f.write_str("does not expire")?,
                }
                match excepted {
                    Some(until) => write!(f, ", by an exception of the policy until {until}"),
                    None => Ok(()),
                }
            }
            Self::Expired { since: Some(since) } => write!(f, "expired {since}"),
            Self::Expired { since: None } => f.write_str("expired"),
            Self::Revoked => f.write_str("revoked"),
            Self::Unusable { why } => write!(f, "unusable: {why}"),
            Self::Missing => f.write_str("pinned, certificate missing"),
            Self::Ssh => f.write_str("SSH key"),
        }
    }
}
