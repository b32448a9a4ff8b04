//! Searches for missing certificates, and reports the result.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use hab_keys::{Certificates, Fingerprint, KeyId, KeyState, Policy};
use hab_oci::Digest;

use super::Keyring;
use super::ask::{Answers, Target};
use crate::error::FarmError;
use crate::facts::Fact;
use hab_clock::now;

/// How long a process waits until it searches again by itself.
const AGAIN: Duration = Duration::from_hours(1);
/// The most names in one sentence.
const NAMED: usize = 4;

impl Keyring<'_> {
    /// Searches for certificates of `policy` that `certificates` lacks, or that are of no use: in mirrored folders, and
    /// outside if the operator allows it, at most once a day. Keeps what it finds. Finding nothing is no error.
    pub(crate) fn find_missing(
        &self,
        policy: &Policy,
        certificates: &mut Certificates,
    ) -> Result<(), FarmError> {
        self.find_in_folders(policy, certificates)?;
        let wanting = KeyState::wanting(policy, certificates, SystemTime::now());
        let targets: Vec<Target> = wanting.into_iter().filter_map(Target::of).collect();
        // If there is no server to ask, do not report a search.
        if targets.iter().all(|target| self.places_of(target).is_empty())
            || self.fetching.offline
            || !self.places.outside.search
            || self.looked_lately(policy, &targets)?
        {
            return Ok(());
        }
        self.fetching.progress.stage(&format!(
            "look for {} certificates of policy {}",
            targets.len(),
            policy.name()
        ));
        let answers = self.ask_outside(&targets, false)?;
        let mut all = Certificates::default();
        answers.found.iter().for_each(|(_, _, found)| all.merge(found));
        self.note_answers(policy, &targets, &answers, certificates);
        all.keep_in(&self.data.certificates())?;
        certificates.merge(&all);
        if !answers.heard.is_empty() {
            let fact = Fact::CertificatesLookedFor { policy: policy.name() };
            self.facts.remember(&fact, &looked_for(&targets), 0)?;
        }
        Ok(())
    }

    /// Takes missing certificates from folders of mirrored projects.
    pub(super) fn find_in_folders(
        &self,
        policy: &Policy,
        certificates: &mut Certificates,
    ) -> Result<(), FarmError> {
        if KeyState::wanting(policy, certificates, SystemTime::now()).is_empty() {
            return Ok(());
        }
        for (place, found) in self.in_folders(policy, &mut BTreeMap::new()) {
            let news = certificates.news(&found);
            if news.is_empty() {
                continue;
            }
            let named = |f: &Fingerprint| policy.pin(&KeyId::OpenPgp(f.clone())).map(|pin| pin.name.as_str());
            let names: Vec<&str> = news.iter().filter_map(named).collect();
            self.fetching
                .progress
                .note(&format!("certificates of {} were found in the {place}", listed(&names)));
            found.keep_in(&self.data.certificates())?;
            certificates.merge(&found);
        }
        Ok(())
    }

    /// Whether these keys were searched today already, or by this process within the hour.
    fn looked_lately(&self, policy: &Policy, targets: &[Target]) -> Result<bool, FarmError> {
        let name = policy.name();
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.get(name).is_some_and(|at| at.elapsed() < AGAIN) {
                return Ok(true);
            }
            looked.insert(name.to_owned(), Instant::now());
        }
        let latest = self.facts.latest(&Fact::CertificatesLookedFor { policy: name })?;
        Ok(latest == Some(looked_for(targets)))
    }

    fn note_answers(&self, policy: &Policy, targets: &[Target], answers: &Answers, here: &Certificates) {
        let mut by_place: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (place, fingerprint, found) in &answers.found {
            let target = targets.iter().find(|t| t.fingerprint == *fingerprint);
            if let Some(target) = target.filter(|_| !here.news(found).is_empty()) {
                by_place.entry(place).or_default().push(&target.name);
            }
        }
        for (place, names) in by_place {
            self.fetching.progress.note(&format!("certificates of {} were found at {place}", listed(&names)));
        }
        self.note_odd(answers);
        let found: BTreeSet<_> = answers.found.iter().map(|(_, fingerprint, _)| fingerprint).collect();
        let missing =
            targets.iter().filter(|t| !found.contains(&t.fingerprint) && here.get(&t.fingerprint).is_none());
        let names: Vec<&str> = missing.map(|t| t.name.as_str()).collect();
        if !names.is_empty() {
            let (policy, names) = (policy.name(), listed(&names));
            self.fetching
                .progress
                .note(&format!("certificates that policy {policy} needs were not found: those of {names}"));
        }
    }

    /// Notes which servers did not answer, and which answered with something else.
    pub(super) fn note_odd(&self, answers: &Answers) {
        for (place, why) in &answers.silent {
            self.fetching.progress.note(&format!("cannot get certificates from {place}: {why}"));
        }
        for (place, times) in &answers.strange {
            self.fetching.progress.note(&format!(
                "{place} answered {times} times with another key than the one asked for, or with something unreadable; \
                 these answers are not used"
            ));
        }
    }
}

/// The value to remember for the day on which these keys were searched.
fn looked_for(targets: &[Target]) -> Digest {
    let day = now() / (24 * 3600);
    let keys: Vec<String> = targets.iter().map(|t| format!("{:X}", t.fingerprint)).collect();
    Digest::of(format!("{day} {}", keys.join(" ")).as_bytes())
}

/// Some names, and how many more there are.
pub(super) fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let some = names[..names.len().min(NAMED)].join(", ");
    if more == 0 { some } else { format!("{some} and {more} more") }
}
