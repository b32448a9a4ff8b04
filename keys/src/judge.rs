//! Judges signatures by one policy, for one moment: what each is worth, and whether enough of them are good.
//!
//! Each signature is judged on its own, so a broken one neither harms nor helps the others. It is judged for the
//! present. If it is not good now, but this farm recorded that it saw the signature before, it is judged for that time.
//! The time in a signature never decides, because whoever holds the key can choose it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use hab_oci::Digest;

use crate::blocks::{self, Block};
use crate::policy::{KeyId, Pin, Quorum, Requirement, Rule, RuleKind};
use crate::{Basis, Certificates, Policy, Refusal, SignatureSeen, Verdict, openpgp, ssh};

/// A farm's memory of signatures.
pub trait FirstSeen: Sync {
    /// The time at which the signature with these bytes was first seen to be good here, if it was.
    fn first_seen(&self, signature: &Digest) -> Option<SystemTime>;
}

/// An empty memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingSeen;

impl FirstSeen for NothingSeen {
    fn first_seen(&self, _: &Digest) -> Option<SystemTime> {
        None
    }
}

/// What the signed bytes are; an SSH signature names it (PROTOCOL.sshsig, namespace).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    /// A git object.
    Git,
    /// A file.
    File,
}

/// Judges signatures by one policy.
pub struct Judge<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) certificates: &'a Certificates,
    now: SystemTime,
    memory: &'a dyn FirstSeen,
    pub(crate) standings: openpgp::Standings,
}

impl<'a> Judge<'a> {
    /// A judge for the time `now`, without a memory of earlier signatures.
    pub fn new(policy: &'a Policy, certificates: &'a Certificates, now: SystemTime) -> Self {
        Self { policy, certificates, now, memory: &NothingSeen, standings: openpgp::Standings::default() }
    }

    /// The same judge with a memory.
    #[must_use]
    pub fn remembering(mut self, memory: &'a dyn FirstSeen) -> Self {
        self.memory = memory;
        self
    }

    /// The policy.
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// The time of judgement.
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// The policy's requirement of this kind; an error about `what` if there is none.
    pub(crate) fn requirement(&self, kind: RuleKind, what: &str) -> Result<&'a Requirement, Refusal> {
        let (what, policy) = (what.to_owned(), self.policy.name().to_owned());
        if let Some(why) = self.policy.needs_keys() {
            return Err(Refusal::NeedsKeys { what, policy, why: why.to_owned() });
        }
        if let Some(found) = self.policy.requirement(kind) {
            return Ok(found);
        }
        Err(match self.policy.requirement(RuleKind::Unsigned).map(|r| &r.rule) {
            Some(Rule::Unsigned(reason)) => Refusal::AskForUnsigned { what, policy, reason: reason.clone() },
            _ => Refusal::WrongPolicy { what, policy, kind },
        })
    }

    /// Judges every signature in `signatures` (armored blocks, or binary OpenPGP) over `bytes`.
    pub(crate) fn detached(
        &self,
        what: &str,
        signed: Signed,
        signatures: &[u8],
        bytes: &[u8],
    ) -> Result<Vec<SignatureSeen>, Refusal> {
        let unreadable = |detail: String| Refusal::Unreadable { what: what.to_owned(), detail };
        let mut seen = Vec::new();
        for block in blocks::split(signatures).map_err(unreadable)? {
            let judged = |moment: &Moment| match block {
                Block::Ssh(block) => Ok(vec![ssh::judge(self, moment, signed, block, bytes)]),
                Block::OpenPgp(block) => Ok(openpgp::detached(self, moment, block, bytes)),
            };
            seen.extend(self.at_its_best(&Digest::of(block.bytes()), judged)?);
        }
        Ok(seen)
    }

    /// Judges for the present, and if that fails, for the time at which the signature was first seen.
    fn at_its_best(
        &self,
        signature: &Digest,
        judged: impl Fn(&Moment) -> Result<Vec<SignatureSeen>, Refusal>,
    ) -> Result<Vec<SignatureSeen>, Refusal> {
        let now = Moment { at: self.now, basis: Basis::Now, signature: signature.clone() };
        let mut seen = judged(&now)?;
        if seen.iter().all(|s| s.verdict == Verdict::Good) {
            return Ok(seen);
        }
        // A record from the future comes from a wrong clock.
        let first = self.memory.first_seen(signature).filter(|at| *at <= self.now);
        let Some(at) = first else { return Ok(seen) };
        let then = judged(&Moment { at, basis: Basis::FirstSeen, signature: signature.clone() })?;
        for (now, then) in seen.iter_mut().zip(then) {
            if now.verdict != Verdict::Good && then.verdict == Verdict::Good {
                *now = then;
            }
        }
        Ok(seen)
    }

    /// Judges clearsigned text of at most `limit` bytes. Returns exactly the signed text, and every signature.
    pub(crate) fn clearsigned(
        &self,
        what: &str,
        bytes: &[u8],
        limit: u64,
    ) -> Result<(Vec<u8>, Vec<SignatureSeen>), Refusal> {
        let unreadable = |detail: String| Refusal::Unreadable { what: what.to_owned(), detail };
        let block = blocks::clearsigned(bytes).map_err(unreadable)?.ok_or_else(|| self.unsigned(what))?;
        let text = std::cell::RefCell::new(Vec::new());
        let seen = self.at_its_best(&Digest::of(block), |moment| {
            let (content, seen) = openpgp::clearsigned(self, moment, block, limit).map_err(unreadable)?;
            text.replace(content);
            Ok(seen)
        })?;
        Ok((text.into_inner(), seen))
    }

    /// Checks that enough distinct keys made a good signature.
    pub(crate) fn quorum(&self, what: &str, quorum: &Quorum, seen: &[SignatureSeen]) -> Result<(), Refusal> {
        let good = self.signers(quorum, seen).len();
        if good >= quorum.threshold {
            return Ok(());
        }
        Err(Refusal::Signatures {
            what: what.to_owned(),
            policy: self.policy.name().to_owned(),
            good,
            threshold: quorum.threshold,
            seen: if seen.is_empty() {
                "no signature was seen".to_owned()
            } else {
                format!("seen: {}", self.words(quorum, seen))
            },
            find: seen.iter().any(SignatureSeen::lacks_certificate).then(|| self.policy.how_to_find()),
        })
    }

    /// The verdict on each signature, for a sentence about a requirement.
    pub(crate) fn words(&self, quorum: &Quorum, seen: &[SignatureSeen]) -> String {
        let mut seen = seen.to_vec();
        self.set_aside(quorum, &mut seen);
        seen.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// Gives every good signature that does not count for `quorum` the reason for that.
    pub fn set_aside(&self, quorum: &Quorum, seen: &mut [SignatureSeen]) {
        for seen in seen {
            let pin = seen.key.parse().ok().and_then(|id: KeyId| self.policy.pin(&id));
            let outside = quorum
                .group
                .as_deref()
                .filter(|_| pin.is_some_and(|p| !p.counts_for(quorum.group.as_deref())));
            seen.aside = match (&seen.verdict, outside) {
                (Verdict::Good | Verdict::ExpiredSince(_), Some(group)) => {
                    Some(format!("outside group {group}, whose keys alone count here"))
                }
                (Verdict::ExpiredSince(_), None) if !quorum.expired_since => {
                    Some("keys that expired since do not count here".to_owned())
                }
                _ => None,
            };
        }
    }

    /// Checks that the requirements in `met` are enough for the policy's `accept`; the error names those that are met.
    pub(crate) fn check_accepted(&self, what: &str, met: &BTreeSet<String>) -> Result<(), Refusal> {
        if self.policy.accept().met_by(met) {
            return Ok(());
        }
        Err(Refusal::NotEnough {
            what: what.to_owned(),
            policy: self.policy.name().to_owned(),
            accept: self.policy.accept().to_string(),
            met: met.iter().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether enough distinct keys made a good signature.
    pub fn counts(&self, quorum: &Quorum, seen: &[SignatureSeen]) -> bool {
        self.signers(quorum, seen).len() >= quorum.threshold
    }

    /// The keys that count: one that signs three times is one signer.
    pub(crate) fn signers(&self, quorum: &Quorum, seen: &[SignatureSeen]) -> BTreeSet<&'a KeyId> {
        let counts = |s: &&SignatureSeen| match s.verdict {
            Verdict::Good => true,
            Verdict::ExpiredSince(_) => quorum.expired_since,
            _ => false,
        };
        let pin = |s: &SignatureSeen| -> Option<&'a Pin> {
            let id: KeyId = s.key.parse().ok()?;
            self.policy.pin(&id).filter(|pin| pin.counts_for(quorum.group.as_deref()))
        };
        seen.iter().filter(counts).filter_map(pin).map(|pin| &pin.id).collect()
    }

    pub(crate) fn unsigned(&self, what: &str) -> Refusal {
        Refusal::Unsigned { what: what.to_owned(), policy: self.policy.name().to_owned() }
    }
}

/// The time for which a signature is judged.
pub(crate) struct Moment {
    pub at: SystemTime,
    pub basis: Basis,
    /// The digest of the signature's own bytes.
    pub signature: Digest,
}

impl Moment {
    /// Makes the record of a judged signature.
    pub fn seen(
        &self,
        key: String,
        pin: Option<&Pin>,
        made: Option<SystemTime>,
        algorithm: String,
        verdict: Verdict,
    ) -> SignatureSeen {
        SignatureSeen {
            key,
            name: pin.map(|pin| pin.name.clone()),
            made: made.map(rfc3339),
            algorithm,
            digest: self.signature.clone(),
            judged: rfc3339(self.at),
            basis: self.basis,
            verdict,
            aside: None,
        }
    }

    /// The verdict of a pin's own range on a signature that is good otherwise and claims to be made at `made`.
    pub fn within(&self, pin: &Pin, made: Option<SystemTime>) -> Option<Verdict> {
        let stamp = |time| jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX);
        let made = made.map_or_else(|| stamp(self.at), stamp);
        if let Some(since) = pin.since.filter(|since| made < *since) {
            return Some(Verdict::BadKey(format!("made before {since}, since when its key is pinned")));
        }
        let until = pin.until.filter(|until| stamp(self.at) >= *until)?;
        Some(if made < until {
            Verdict::ExpiredSince(format!("pinned until {until}"))
        } else {
            Verdict::BadKey(format!("made after {until}, until when its key is pinned"))
        })
    }
}

/// RFC 3339, in UTC and whole seconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let stamp = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    jiff::Timestamp::from_second(stamp.as_second()).unwrap_or(stamp).to_string()
}

impl std::fmt::Display for SignatureSeen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        write!(f, ": {}", self.verdict)?;
        match &self.aside {
            Some(aside) => write!(f, ", but {aside}"),
            None => Ok(()),
        }
    }
}

impl SignatureSeen {
    /// Whether a certificate that is missing here could lead to a better verdict.
    pub fn lacks_certificate(&self) -> bool {
        matches!(self.verdict, Verdict::CertificateMissing | Verdict::Unidentified(_))
    }
}
