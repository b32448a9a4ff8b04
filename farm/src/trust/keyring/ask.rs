//! Asks Web Key Directories and key servers for certificates. Whoever answers is a stranger, so an answer counts only
//! if it has the pinned fingerprint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hab_keys::{Certificates, Fingerprint, KeyDirectory, KeyId, KeyState, Pin};
use hab_mirror::{Address, Fault, FetchLimits, Fetcher, MirrorError};

use super::Keyring;
use crate::error::FarmError;

/// The largest answer that is read, in bytes. Certificates that thousands have signed have one or two million.
const ANSWER: u64 = 4 << 20;
/// How long one answer may take, with its head and all redirects.
const REQUEST: Duration = Duration::from_secs(30);
/// How long a search may take. A server that answers slowly must not hold a build up for hours.
const SEARCH: Duration = Duration::from_mins(10);
/// The most keys that one search asks for.
const KEYS: usize = 500;
/// The most addresses of one key whose directories are asked. The key's owner can write any number of them into a
/// certificate.
const ADDRESSES: usize = 8;

/// A key whose certificate is searched.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub fingerprint: Fingerprint,
    pub name: String,
    /// Email addresses whose Web Key Directories may have it.
    pub addresses: BTreeSet<String>,
}

impl Target {
    pub fn of(pin: &Pin) -> Option<Self> {
        let KeyId::OpenPgp(fingerprint) = &pin.id else { return None };
        let (name, addresses) = (pin.name.clone(), pin.addresses.clone());
        Some(Self { fingerprint: fingerprint.clone(), name, addresses })
    }
}

/// The answers to one search.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The servers that had a certificate, each with the key and the certificate.
    pub found: Vec<(String, Fingerprint, Certificates)>,
    /// The servers that did not answer, and why.
    pub silent: BTreeMap<String, String>,
    /// How often a server answered with another key or with something unreadable. These answers are not used.
    pub strange: BTreeMap<String, usize>,
    /// The servers that gave any answer.
    pub heard: BTreeSet<String>,
    /// Keys about which no server answered.
    pub unanswered: BTreeSet<Fingerprint>,
    /// The servers that are not asked for the next key.
    away: BTreeSet<String>,
}

/// A server that may have a certificate.
pub(super) struct KeyServer {
    name: String,
    address: Address,
    /// Whether the host may be missing: a domain that serves its directory itself has no such host.
    optional: bool,
}

impl Keyring<'_> {
    /// Asks Web Key Directories and key servers for each key. With `all`, takes every answer about a key. Otherwise
    /// stops at the first certificate with which the key can sign.
    pub(super) fn ask_outside(&self, targets: &[Target], all: bool) -> Result<Answers, FarmError> {
        let answers = Mutex::new(Answers::default());
        if targets.len() > KEYS {
            let left = targets.len() - KEYS;
            self.fetching.progress.note(&format!(
                "{left} of {} certificates are not looked for: one search asks for at most {KEYS}",
                targets.len()
            ));
        }
        let targets = &targets[..targets.len().min(KEYS)];
        let many = |target: &&Target| target.addresses.len() > ADDRESSES;
        for target in targets.iter().filter(many).filter(|_| self.places.outside.directories) {
            let (name, count) = (&target.name, target.addresses.len());
            self.fetching.progress.note(&format!(
                "{name} has {count} addresses, and the key directories of at most {ADDRESSES} are asked"
            ));
        }
        let limits = FetchLimits { attempts: 1, ..FetchLimits::default() };
        let end = Instant::now() + SEARCH;
        self.fetching.within(limits, |fetcher, _| {
            fetcher.each(targets, |target| self.ask_for(fetcher, target, (all, end), &answers))
        })?;
        Ok(answers.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask_for(
        &self,
        fetcher: &Fetcher<'_>,
        target: &Target,
        (all, end): (bool, Instant),
        answers: &Mutex<Answers>,
    ) -> Result<(), MirrorError> {
        let what = format!("certificate {:X} of {}", target.fingerprint, target.name);
        let locked = || answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut together = Certificates::default();
        let (mut failed, mut answered) = (false, false);
        for KeyServer { name: place, address, optional } in self.places_of(target) {
            // A server that failed for one key is not asked for the next.
            if locked().away.contains(&place) {
                failed = true;
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                failed = true;
                locked().not_reached(place);
                continue;
            }
            let bytes = match fetcher.peek(&what, &address, ANSWER, REQUEST.min(left)) {
                Ok(bytes) => bytes,
                Err(e) if matches!(e.fault(), Fault::Cancelled | Fault::Ours) => return Err(e),
                Err(e) if optional && e.is_unknown_host() => continue,
                Err(e) => {
                    failed = true;
                    locked().failed(place, &e);
                    continue;
                }
            };
            answered = true;
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
            let standing = KeyState::of(&id, &together, SystemTime::now(), None);
            if !all && matches!(standing, KeyState::Alive { .. }) {
                break;
            }
        }
        if failed && !answered {
            locked().unanswered.insert(target.fingerprint.clone());
        }
        Ok(())
    }

    /// The servers to ask for a key, in order: what its owner publishes, then what others pass on.
    pub(super) fn places_of(&self, target: &Target) -> Vec<KeyServer> {
        let config = self.places.outside;
        let mut found = Vec::new();
        let mut add = |name: &str, address, optional| {
            found.push(KeyServer { name: name.to_owned(), address, optional });
        };
        let directories = target.addresses.iter().filter_map(|a| KeyDirectory::of(a)).take(ADDRESSES);
        for KeyDirectory { domain, advanced, direct } in directories.filter(|_| config.directories) {
            let place = format!("the key directory of {domain}");
            if let Some(base) = config.domains.of(&domain) {
                add(&place, Address::from(format!("{base}{direct}")), false);
                continue;
            }
            // A stranger chose the address, so it must not lead to an inner address.
            let host = format!("openpgpkey.{domain}");
            add(&host, Address::from_outside(format!("https://{host}{advanced}")), true);
            add(&place, Address::from_outside(format!("https://{domain}{direct}")), false);
        }
        for server in &config.servers {
            let base = &server.address;
            let url = format!("{base}/pks/lookup?op=get&options=mr&search=0x{:X}", target.fingerprint);
            let address = if server.shipped { Address::from_outside(url) } else { Address::from(url) };
            add(base, address, false);
        }
        found
    }
}

impl Answers {
    /// Records that a server did not answer. A certificate that is too large, which anybody can make of another's, must
    /// not exclude the server for other keys.
    fn failed(&mut self, place: String, error: &MirrorError) {
        let why = std::error::Error::source(error).map_or_else(|| error.to_string(), hab_chain::chain);
        if !error.is_too_large() {
            self.away.insert(place.clone());
        }
        self.silent.insert(place, why);
    }

    /// Records that the search ended before this server was asked.
    fn not_reached(&mut self, place: String) {
        let why = || format!("the search took longer than {} s", SEARCH.as_secs());
        self.silent.entry(place).or_insert_with(why);
    }
}
