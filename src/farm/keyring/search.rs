//! Looking for certificates outside: in Web Key Directories and at key servers. Whoever answers is a stranger; what
//! counts is that the answer has the pinned fingerprint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hab_keys::{Certificates, Fingerprint, KeyDirectory, KeyId, Pin, Policy, Standing};
use hab_mirror::{Address, Fault, Fetcher, Limits, MirrorError};
use hab_oci::Digest;

use super::Farm;
use crate::farm::{FarmError, chain, open};

/// The largest answer that is read, in bytes. Certificates that thousands have signed have one or two million.
const ANSWER: u64 = 4 << 20;
/// The most keys that are asked for in one go.
const KEYS: usize = 500;
/// How long a process does not look again by itself.
const AGAIN: Duration = Duration::from_hours(1);
/// Under which kind the catalog remembers which keys were looked for on which day.
const LOOKED: &str = "certificates-looked-for";
/// How many names a sentence has.
const NAMED: usize = 4;

/// A key whose certificate is looked for.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub fingerprint: Fingerprint,
    pub name: String,
    /// Addresses whose Web Key Directories may have it.
    pub addresses: BTreeSet<String>,
}

impl Target {
    pub fn of(pin: &Pin) -> Option<Self> {
        let KeyId::OpenPgp(fingerprint) = &pin.id else { return None };
        let (name, addresses) = (pin.name.clone(), pin.addresses.clone());
        Some(Self { fingerprint: fingerprint.clone(), name, addresses })
    }
}

/// What came of asking outside.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Who had which certificate.
    pub found: Vec<(String, Fingerprint, Certificates)>,
    /// Who did not answer, and why.
    pub silent: BTreeMap<String, String>,
    /// Who answered how often with another key, or with nothing that reads. It is not used.
    pub strange: BTreeMap<String, usize>,
    /// Who answered, whatever.
    pub heard: BTreeSet<String>,
}

impl Farm {
    /// Looks for the certificates of `policy` that are missing from `certificates`, or of no use: in mirrored
    /// folders, and outside where the operator lets it and not more than once a day. What is found is kept. That
    /// nothing is found is no error.
    pub(in crate::farm) fn find_missing(
        &self,
        policy: &Policy,
        certificates: &mut Certificates,
    ) -> Result<(), FarmError> {
        self.find_in_folders(policy, certificates)?;
        let config = &self.options.config.keys;
        let targets: Vec<Target> = wanting(policy, certificates).into_iter().filter_map(Target::of).collect();
        // Where nobody may be asked, nothing is said of having asked.
        if targets.iter().all(|target| self.addresses(target).is_empty())
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
        for (place, found) in self.in_folders(policy) {
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

    /// Says who did not answer, and who answered something else. Most domains have no key directory; that says nothing.
    pub(super) fn note_odd(&self, answers: &Answers) {
        let servers = &self.options.config.keys.servers;
        let silent = answers.silent.iter().filter(|(place, _)| servers.iter().any(|s| s.address == **place));
        for (place, why) in silent {
            self.progress.note(&format!("{place} was asked for certificates in vain: {why}"));
        }
        for (place, times) in &answers.strange {
            self.progress.note(&format!(
                "{place} answered {times} times with another key than it was asked for, or with nothing that reads; \
                 that is not used"
            ));
        }
    }

    /// Asks Web Key Directories and key servers for each key. Of several answers about one key all are taken where
    /// `all` is wanted; otherwise the first by which the key can sign ends it.
    pub(super) fn ask_outside(&self, targets: &[Target], all: bool) -> Result<Answers, FarmError> {
        let answers = Mutex::new(Answers::default());
        if targets.len() > KEYS {
            let left = targets.len() - KEYS;
            self.progress.note(&format!(
                "{left} of {} certificates are not looked for: at most {KEYS} are at a time",
                targets.len()
            ));
        }
        let targets = &targets[..targets.len().min(KEYS)];
        let limits = Limits { attempts: 1, ..Limits::default() };
        self.fetching_within(limits, |fetcher, _| {
            fetcher.each(targets, |target| self.ask_for(fetcher, target, all, &answers))
        })?;
        Ok(answers.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask_for(
        &self,
        fetcher: &Fetcher<'_>,
        target: &Target,
        all: bool,
        answers: &Mutex<Answers>,
    ) -> Result<(), MirrorError> {
        let what = format!("certificate {:X} of {}", target.fingerprint, target.name);
        let locked = || answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut together = Certificates::default();
        for (place, address) in self.addresses(target) {
            // Who was away for one key is for the next.
            if locked().silent.contains_key(&place) {
                continue;
            }
            let bytes = match fetcher.peek(&what, &address, ANSWER) {
                Ok(bytes) => bytes,
                Err(e) if matches!(e.fault(), Fault::Cancelled | Fault::Ours) => return Err(e),
                Err(e) => {
                    let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), chain);
                    locked().silent.insert(place, why);
                    continue;
                }
            };
            locked().heard.insert(place.clone());
            let Some(bytes) = bytes else { continue };
            let found = Certificates::answered(&bytes, |f| *f == target.fingerprint);
            if found.is_empty() {
                *locked().strange.entry(place).or_default() += 1;
                continue;
            }
            together.merge(&found);
            locked().found.push((place, target.fingerprint.clone(), found));
            let id = KeyId::OpenPgp(target.fingerprint.clone());
            let standing = Standing::of(&id, &together, SystemTime::now(), None);
            if !all && matches!(standing, Standing::Alive { .. }) {
                break;
            }
        }
        Ok(())
    }

    /// Where a key is asked for, in order: what its owner publishes, then what others pass on.
    fn addresses(&self, target: &Target) -> Vec<(String, Address)> {
        let config = &self.options.config.keys;
        let mut found = Vec::new();
        for directory in
            target.addresses.iter().filter_map(|a| KeyDirectory::of(a)).filter(|_| config.directories)
        {
            let KeyDirectory { domain, advanced, direct } = directory;
            let place = format!("the key directory of {domain}");
            if let Some(base) = config.domains.get(&domain) {
                found.push((place, Address::from(format!("{}{direct}", base.trim_end_matches('/')))));
                continue;
            }
            // Whoever chose the address is a stranger, so it must not lead in.
            let host = format!("openpgpkey.{domain}");
            found.push((host.clone(), Address::from_outside(format!("https://{host}{advanced}"))));
            found.push((place, Address::from_outside(format!("https://{domain}{direct}"))));
        }
        for server in &config.servers {
            let base = &server.address;
            let url = format!("{base}/pks/lookup?op=get&options=mr&search=0x{:X}", target.fingerprint);
            let address = if server.shipped { Address::from_outside(url) } else { Address::from(url) };
            found.push((base.clone(), address));
        }
        found
    }
}

/// The pins whose certificates are not here; or have expired, as their owners may have extended them; or cannot be
/// used, as a key server that leaves user ids out may have given half of one.
pub(in crate::farm) fn wanting<'p>(policy: &'p Policy, certificates: &Certificates) -> Vec<&'p Pin> {
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
