//! Searches for newer certificates of all pinned keys: `hab-build keys refresh`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use hab_keys::{Certificates, Fingerprint, KeyId, KeyState, Policy};

use super::Keyring;
use super::ask::{Answers, Target};
use crate::error::FarmError;
use crate::words::counted;

/// The result of a search for newer certificates.
#[derive(Debug, serde::Serialize)]
pub struct Refreshed {
    /// Every OpenPGP key whose certificate was searched.
    pub keys: Vec<RefreshedKey>,
    /// The servers that did not answer, and why.
    pub silent: BTreeMap<String, String>,
    /// How often a server answered with another key or with something unreadable.
    pub strange: BTreeMap<String, usize>,
    /// Whether no server was asked, because of --offline.
    pub offline: bool,
}

/// A key whose certificate was searched.
#[derive(Debug, serde::Serialize)]
pub struct RefreshedKey {
    /// Its full fingerprint.
    pub fingerprint: String,
    /// The name of its owner.
    pub name: String,
    /// The policies that pin it.
    pub policies: Vec<String>,
    /// The places where its certificate was found.
    pub found: Vec<String>,
    /// Whether it was not found because no server that was asked answered.
    pub unanswered: bool,
    /// Whether the search learned something new about the key.
    pub learned: bool,
    /// Its standing before the search.
    pub before: KeyState,
    /// Its standing now.
    pub after: KeyState,
}

impl Refreshed {
    /// The error for keys about which no server answered, if there are any.
    pub fn failure(&self) -> Option<FarmError> {
        let unanswered = self.keys.iter().filter(|key| key.unanswered).count();
        (unanswered > 0).then(|| FarmError::NotRefreshed { unanswered, total: self.keys.len() })
    }
}

/// A key and the policies that pin it.
struct WantedKey<'a> {
    target: Target,
    policies: Vec<&'a Policy>,
    found: BTreeSet<String>,
}

impl Keyring<'_> {
    /// Searches for certificates of one policy's keys, or of all, even if there are some already: in mirrored folders,
    /// in Web Key Directories and at every key server. Merges what it finds with what is here, so that nothing is lost:
    /// an answer without a revocation does not undo the revocation.
    pub fn refresh(&self, policy: Option<&str>) -> Result<Refreshed, FarmError> {
        let policies = self.policies.some(policy)?;
        let mut wanted = wanted(&policies);
        let fingerprints: BTreeSet<_> = wanted.values().map(|w| w.target.fingerprint.clone()).collect();
        let before = Certificates::read(&self.places(&[]), |f| fingerprints.contains(f))?;
        let (mut learned, mut silent) = (Certificates::default(), BTreeMap::new());
        for policy in &policies {
            for (place, found) in self.in_folders(policy, &mut silent) {
                let has = |w: &&mut WantedKey<'_>| found.get(&w.target.fingerprint).is_some();
                wanted.values_mut().filter(has).for_each(|w| {
                    w.found.insert(place.clone());
                });
                learned.merge(&found);
            }
        }
        let mut answers = Answers::default();
        if !self.fetching.offline {
            let mut targets: Vec<Target> = wanted.values().map(|w| w.target.clone()).collect();
            for target in &mut targets {
                target.addresses.extend(before.addresses(&target.fingerprint));
                target.addresses.extend(learned.addresses(&target.fingerprint));
            }
            self.fetching
                .progress
                .stage(&format!("look for certificates of {}", counted(targets.len() as u64, "key")));
            answers = self.ask_outside(&targets, true)?;
            self.note_odd(&answers);
            for (place, fingerprint, found) in &answers.found {
                if let Some(wanted) = wanted.get_mut(&KeyId::OpenPgp(fingerprint.clone())) {
                    wanted.found.insert(place.clone());
                }
                learned.merge(found);
            }
        }
        silent.append(&mut answers.silent);
        learned.keep_in(&self.data.certificates())?;
        let after = Certificates::read(&self.places(&[]), |f| fingerprints.contains(f))?;
        let unanswered = &answers.unanswered;
        let rows = wanted.into_iter().map(|(id, wanted)| row(&id, wanted, (&before, &after), unanswered));
        let (keys, offline) = (rows.collect(), self.fetching.offline);
        Ok(Refreshed { keys, silent, strange: answers.strange, offline })
    }
}

fn wanted(policies: &[Policy]) -> BTreeMap<KeyId, WantedKey<'_>> {
    let mut wanted: BTreeMap<KeyId, WantedKey<'_>> = BTreeMap::new();
    for policy in policies {
        for pin in policy.pins() {
            let Some(target) = Target::of(pin) else { continue };
            let addresses = target.addresses.clone();
            let new = || WantedKey { target, policies: Vec::new(), found: BTreeSet::new() };
            let entry = wanted.entry(pin.id.clone()).or_insert_with(new);
            entry.target.addresses.extend(addresses);
            entry.policies.push(policy);
        }
    }
    wanted
}

fn row(
    id: &KeyId,
    wanted: WantedKey<'_>,
    (before, after): (&Certificates, &Certificates),
    unanswered: &BTreeSet<Fingerprint>,
) -> RefreshedKey {
    let now = SystemTime::now();
    let policy = wanted.policies.first().copied();
    let fingerprint = &wanted.target.fingerprint;
    RefreshedKey {
        fingerprint: id.to_string(),
        name: wanted.target.name,
        policies: wanted.policies.iter().map(|policy| policy.name().to_owned()).collect(),
        unanswered: wanted.found.is_empty() && unanswered.contains(fingerprint),
        found: wanted.found.into_iter().collect(),
        learned: before.get(fingerprint) != after.get(fingerprint),
        before: KeyState::of(id, before, now, policy),
        after: KeyState::of(id, after, now, policy),
    }
}
