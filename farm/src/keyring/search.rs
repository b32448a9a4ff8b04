//! Looking for certificates that are missing, and saying what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use hab_keys::{Certificates, Fingerprint, KeyId, Pin, Policy, Standing};
use hab_oci::Digest;

use super::Farm;
use super::ask::{Answers, Target};
use crate::{FarmError, open};

/// How long a process does not look again by itself.
const AGAIN: Duration = Duration::from_hours(1);
/// Under which kind the catalog remembers which keys were looked for on which day.
const LOOKED: &str = "certificates-looked-for";
/// How many names a sentence has.
const NAMED: usize = 4;

impl Farm {
    /// Looks for the certificates of `policy` that are missing from `certificates`, or of no use: in mirrored
    /// folders, and outside where the operator lets it and not more than once a day. What is found is kept. That
    /// nothing is found is no error.
    pub(crate) fn find_missing(
        &self,
        policy: &Policy,
        certificates: &mut Certificates,
    ) -> Result<(), FarmError> {
        self.find_in_folders(policy, certificates)?;
        let config = &self.options.config.keys;
        let targets: Vec<Target> = wanting(policy, certificates).into_iter().filter_map(Target::of).collect();
        // Where nobody may be asked, nothing is said of having asked.
        if targets.iter().all(|target| self.places_of(target).is_empty())
            || self.options.offline
            || !config.search
            || self.looked_lately(policy, &targets)?
        {
            return Ok(());
        }
        self.progress.stage(&format!("look for {} certificates of policy {}", targets.len(), policy.name()));
        let answers = self.ask_outside(&targets, false)?;
        let mut all = Certificates::default();
        answers.found.iter().for_each(|(_, _, found)| all.merge(found));
        self.note_answers(policy, &targets, &answers, certificates);
        all.keep_in(&self.certificate_folder())?;
        certificates.merge(&all);
        if !answers.heard.is_empty() {
            let (name, digest) = (policy.name(), looked_for(&targets));
            self.runtime.block_on(self.store.catalog.remember(LOOKED, name, &digest, 0, open::now()))?;
        }
        Ok(())
    }

    /// Takes what is missing from folders of mirrored projects.
    pub(super) fn find_in_folders(
        &self,
        policy: &Policy,
        certificates: &mut Certificates,
    ) -> Result<(), FarmError> {
        if wanting(policy, certificates).is_empty() {
            return Ok(());
        }
        for (place, found) in self.in_folders(policy, &mut BTreeMap::new()) {
            let news = certificates.news(&found);
            if news.is_empty() {
                continue;
            }
            let named = |f: &Fingerprint| policy.pin(&KeyId::OpenPgp(f.clone())).map(|pin| pin.name.as_str());
            let names: Vec<&str> = news.iter().filter_map(named).collect();
            self.progress.note(&format!("certificates of {} were found in the {place}", listed(&names)));
            found.keep_in(&self.certificate_folder())?;
            certificates.merge(&found);
        }
        Ok(())
    }

    /// Whether these keys were looked for today already, or by this process within the hour.
    fn looked_lately(&self, policy: &Policy, targets: &[Target]) -> Result<bool, FarmError> {
        let name = policy.name();
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.get(name).is_some_and(|at| at.elapsed() < AGAIN) {
                return Ok(true);
            }
            looked.insert(name.to_owned(), Instant::now());
        }
        let latest = self.runtime.block_on(self.store.catalog.latest(LOOKED, name))?;
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
            self.progress.note(&format!("certificates of {} were found at {place}", listed(&names)));
        }
        self.note_odd(answers);
        let found: BTreeSet<_> = answers.found.iter().map(|(_, fingerprint, _)| fingerprint).collect();
        let missing =
            targets.iter().filter(|t| !found.contains(&t.fingerprint) && here.get(&t.fingerprint).is_none());
        let names: Vec<&str> = missing.map(|t| t.name.as_str()).collect();
        if !names.is_empty() {
            let (policy, names) = (policy.name(), listed(&names));
            self.progress
                .note(&format!("certificates that policy {policy} needs were found nowhere: of {names}"));
        }
    }

    /// Says who did not answer, and who answered something else.
    pub(super) fn note_odd(&self, answers: &Answers) {
        for (place, why) in &answers.silent {
            self.progress.note(&format!("{place} was asked for certificates in vain: {why}"));
        }
        for (place, times) in &answers.strange {
            self.progress.note(&format!(
                "{place} answered {times} times with another key than it was asked for, or with nothing that reads; \
                 that is not used"
            ));
        }
    }
}

/// The pins whose certificates are not here; or have expired, as their owners may have extended them; or cannot be
/// used, as a key server that leaves user ids out may have given half of one.
pub(crate) fn wanting<'p>(policy: &'p Policy, certificates: &Certificates) -> Vec<&'p Pin> {
    let now = SystemTime::now();
    let standing = |pin: &Pin| Standing::of(&pin.id, certificates, now, Some(policy));
    let wants = |pin: &&Pin| {
        matches!(standing(pin), Standing::Missing | Standing::Expired { .. } | Standing::Unusable { .. })
    };
    policy.pins().iter().filter(wants).collect()
}

/// What is remembered of a day on which these keys were looked for.
fn looked_for(targets: &[Target]) -> Digest {
    let day = open::now() / (24 * 3600);
    let keys: Vec<String> = targets.iter().map(|t| format!("{:X}", t.fingerprint)).collect();
    Digest::of(format!("{day} {}", keys.join(" ")).as_bytes())
}

/// Some names, and how many more.
pub(super) fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let some = names[..names.len().min(NAMED)].join(", ");
    if more == 0 { some } else { format!("{some} and {more} more") }
}
