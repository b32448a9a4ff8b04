//! The state of a key now, without looking at any signature of it.

use std::time::{Duration, SystemTime};

use sequoia_openpgp::Cert;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::{HashAlgorithm, RevocationStatus};
use serde::Serialize;

use crate::judge::rfc3339;
use crate::usable::{believing_sha1, unknown_algorithm, weak_self};
use crate::{Certificates, KeyId, Pin, Policy};

/// The state of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum KeyState {
    /// The key can sign.
    Alive {
        /// The time until which a signing key of it can sign, RFC 3339; `None` if it does not expire.
        expires: Option<String>,
        /// The end of the policy's exception for its certificate, RFC 3339; without the exception it would be unusable.
        #[serde(skip_serializing_if = "Option::is_none")]
        excepted: Option<String>,
    },
    /// None of its keys can sign any more.
    Expired {
        /// The time since which it is expired, RFC 3339; `None` if its certificate does not say.
        since: Option<String>,
    },
    /// Its owner, or somebody who has its key, revoked it.
    Revoked,
    /// Its certificate cannot be used.
    Unusable {
        /// The reason.
        why: String,
        /// Whether the policy may make an exception for it, in `[[weak-certificate]]`.
        #[serde(skip)]
        excusable: bool,
    },
    /// Its certificate is not here.
    Missing,
    /// An SSH key, which needs no certificate and does not expire.
    Ssh,
}

impl KeyState {
    /// The pins of `policy` whose certificates are worth searching for at `now`. A certificate may be missing; or
    /// expired, and its owner may have extended it; or unusable, because a key server that leaves out user ids may have
    /// sent part of it.
    pub fn wanting<'p>(policy: &'p Policy, certificates: &Certificates, now: SystemTime) -> Vec<&'p Pin> {
        let wants = |pin: &&Pin| {
            let standing = Self::of(&pin.id, certificates, now, Some(policy));
            matches!(standing, Self::Missing | Self::Expired { .. } | Self::Unusable { .. })
        };
        policy.pins().iter().filter(wants).collect()
    }

    /// The state of `id` at `now` by `certificates`, under a policy that may make an exception for it.
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
            return Self::Unusable { why, excusable: false };
        }
        if matches!(cert.revocation_status(policy, now), RevocationStatus::Revoked(_)) {
            return Self::Revoked;
        }
        let valid = match cert.with_policy(policy, now) {
            Ok(valid) => valid,
            Err(e) => {
                let weak = weak_self(cert);
                let why = match weak {
                    Some(hash) => format!("its key and user ids are signed with {hash} only"),
                    None => e.root_cause().to_string(),
                };
                return Self::Unusable { why, excusable: weak == Some(HashAlgorithm::SHA1) };
            }
        };
        let primary = valid.primary_key().key_expiration_time();
        // When the certificate expires, all its subkeys do.
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
            return Self::Unusable { why: "none of its keys may sign".to_owned(), excusable: false };
        }
        // The key can sign as long as any of these can.
        let last = if signing.contains(&None) { None } else { signing.into_iter().flatten().max() };
        match last {
            Some(end) if end <= now => Self::Expired { since: Some(rfc3339(end)) },
            last => Self::Alive { expires: last.map(rfc3339), excepted: None },
        }
    }

    /// What a person should know about the key, and whether it prevents accepting something now.
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

impl std::fmt::Display for KeyState {
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
            Self::Unusable { why, .. } => write!(f, "unusable: {why}"),
            Self::Missing => f.write_str("pinned, certificate missing"),
            Self::Ssh => f.write_str("SSH key"),
        }
    }
}
