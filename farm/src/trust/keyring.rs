//! The pinned keys, and what is known about them: `hab-build keys`.

mod ask;
mod folders;
mod refresh;
mod search;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use hab_config::KeysConfig;

use hab_keys::{CertificateImport, Certificates, KeyId, KeyState, Policy};

pub use self::refresh::{Refreshed, RefreshedKey};
use crate::error::FarmError;
use crate::facts::Facts;
use crate::fetching::Fetching;
use crate::folder::DataFolder;
use crate::mirrors::repositories::Repositories;
use crate::trust::memory::Memory;
use crate::trust::policies::Policies;

/// Keys that expire within this time are reported.
const SOON: Duration = Duration::from_hours(90 * 24);

/// A pinned key.
#[derive(Debug, serde::Serialize)]
pub struct KeyRow {
    /// The policy that pins it.
    pub policy: String,
    /// Its full fingerprint.
    pub fingerprint: String,
    /// The name of its owner.
    pub name: String,
    /// Why it is pinned.
    pub reason: String,
    /// Its groups in the policy.
    pub groups: Vec<String>,
    /// What its certificate says now.
    pub standing: KeyState,
    /// When this farm last saw it sign something new, in unix seconds.
    pub last_signed: Option<u64>,
    /// What a person can do, if the key cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// A problem of a key that a person should look at.
#[derive(Debug, serde::Serialize)]
pub struct KeyProblem {
    /// The policies that pin the key; empty if none does.
    pub policies: Vec<String>,
    /// Its full fingerprint.
    pub fingerprint: String,
    /// The name of its owner.
    pub name: String,
    /// What is wrong, in words.
    pub words: String,
    /// Whether it prevents something from being accepted.
    pub urgent: bool,
    /// What a person can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What a person can do about a key with this standing.
fn advice(policy: &Policy, standing: &KeyState) -> Option<String> {
    let name = policy.name();
    Some(match standing {
        KeyState::Missing => policy.how_to_find(),
        KeyState::Expired { .. } => format!(
            "`hab-build keys refresh {name}` looks for a certificate that its owner extended; without one, the key \
             counts only for signatures that this farm saw before, and in requirements with expired-since"
        ),
        KeyState::Revoked => {
            "nothing brings a revoked key back: the policy should name the key that follows it".to_owned()
        }
        KeyState::Unusable { excusable: true, .. } => format!(
            "ask its owner for a certificate that is signed anew, or let [[weak-certificate]] in policy {name} make \
             an exception, with a reason and an end"
        ),
        KeyState::Unusable { .. } => {
            "it cannot count here whatever it signs; the policy should name another key of its owner"
                .to_owned()
        }
        KeyState::Alive { .. } | KeyState::Ssh => return None,
    })
}

/// When certificates for each policy's keys were last searched outside. Locked only to read or write one entry.
pub type Looked = Mutex<BTreeMap<String, Instant>>;

/// The certificates of pinned keys: those that are here, and the search for missing ones.
#[derive(Clone, Copy)]
pub struct Keyring<'a> {
    pub(crate) policies: &'a Policies,
    pub(crate) memory: Memory<'a>,
    pub(crate) facts: Facts<'a>,
    pub(crate) repositories: Repositories<'a>,
    pub(crate) fetching: Fetching<'a>,
    pub(crate) data: &'a DataFolder,
    pub(crate) places: OperatorsPlaces<'a>,
    pub(crate) looked: &'a Looked,
}

/// Where the operator has certificates, and which servers may be asked.
#[derive(Clone, Copy)]
pub struct OperatorsPlaces<'a> {
    /// The operator's files and folders.
    pub certificates: &'a [PathBuf],
    /// Keyrings of the host's packages.
    pub keyrings: &'a [PathBuf],
    /// Key servers and key directories.
    pub outside: &'a KeysConfig,
}

impl Keyring<'_> {
    /// The names of all policies.
    pub fn policy_names(&self) -> Result<Vec<String>, FarmError> {
        self.policies.names()
    }

    /// The certificates of the keys that `policy` pins: from `more`, the operator's files, the data folder and the
    /// host's keyrings. Searches for those that are missing there.
    pub fn certificates(&self, policy: &Policy, more: &[PathBuf]) -> Result<Certificates, FarmError> {
        let places = self.places(more);
        let mut certificates = Certificates::pinned(policy, &places)?;
        if !KeyState::wanting(policy, &certificates, SystemTime::now()).is_empty() {
            self.find_missing(policy, &mut certificates)?;
        }
        certificates.some_of(policy, &places)?;
        Ok(certificates)
    }

    /// The files and folders to read certificates from.
    fn places(&self, more: &[PathBuf]) -> Vec<PathBuf> {
        let OperatorsPlaces { certificates, keyrings, .. } = self.places;
        let kept = [self.data.certificates()];
        more.iter().chain(certificates).chain(&kept).chain(keyrings).cloned().collect()
    }

    /// The pinned keys of one policy, or of all.
    pub fn rows(&self, policy: Option<&str>) -> Result<Vec<KeyRow>, FarmError> {
        let mut rows = Vec::new();
        for policy in self.policies.some(policy)? {
            let certificates = self.certificates_of(&policy)?;
            for pin in policy.pins() {
                let standing = KeyState::of(&pin.id, &certificates, SystemTime::now(), Some(&policy));
                let last = self.memory.last_signed(&pin.id)?;
                rows.push(KeyRow {
                    policy: policy.name().to_owned(),
                    fingerprint: pin.id.to_string(),
                    name: pin.name.clone(),
                    reason: pin.reason.clone(),
                    groups: pin.groups.iter().cloned().collect(),
                    advice: advice(&policy, &standing),
                    standing,
                    last_signed: last
                        .and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok())
                        .map(|d| d.as_secs()),
                });
            }
        }
        Ok(rows)
    }

    /// Takes certificates from files and folders into the data folder, merged with what is there.
    pub fn import(&self, places: &[PathBuf]) -> Result<CertificateImport, FarmError> {
        if let Some(missing) = places.iter().find(|place| !place.exists()) {
            return Err(FarmError::missing(missing));
        }
        let read = Certificates::read(places, |_| true)?;
        if read.iter().next().is_none() {
            let said = places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
            return Err(FarmError::Usage(format!("there is no OpenPGP certificate in {said}")));
        }
        Ok(read.keep_in(&self.data.certificates())?)
    }

    /// What is known about one key: every policy that pins it, and its certificate.
    pub fn show(&self, id: &KeyId) -> Result<(Vec<KeyRow>, KeyState), FarmError> {
        let rows: Vec<_> =
            self.rows(None)?.into_iter().filter(|row| row.fingerprint == id.to_string()).collect();
        let all = Certificates::read(&self.places(&[]), |f| KeyId::OpenPgp(f.clone()) == *id)?;
        let excepted =
            rows.iter().map(|row: &KeyRow| &row.standing).find(|s| matches!(s, KeyState::Alive { .. }));
        let standing = excepted.cloned().unwrap_or_else(|| KeyState::of(id, &all, SystemTime::now(), None));
        Ok((rows, standing))
    }

    /// What a person should look at: keys that have expired or will soon, that are revoked, or that are pinned without
    /// a certificate, and imported certificates that no policy pins.
    pub fn audit(&self, policy: Option<&str>) -> Result<Vec<KeyProblem>, FarmError> {
        let mut found: BTreeMap<String, KeyProblem> = BTreeMap::new();
        for policy in self.policies.some(policy)? {
            let certificates = self.certificates_of(&policy)?;
            for pin in policy.pins() {
                let standing = KeyState::of(&pin.id, &certificates, SystemTime::now(), Some(&policy));
                let Some((words, urgent)) = standing.finding(SystemTime::now(), SOON) else { continue };
                let fingerprint = pin.id.to_string();
                let name = pin.name.clone();
                let advice = advice(&policy, &standing).or_else(|| {
                    Some(format!("`hab-build keys refresh {}` looks for a newer one", policy.name()))
                });
                let policies = Vec::new();
                let row =
                    KeyProblem { policies, fingerprint: fingerprint.clone(), name, words, urgent, advice };
                found.entry(fingerprint).or_insert(row).policies.push(policy.name().to_owned());
            }
        }
        let pinned: Vec<KeyId> = self
            .policies
            .some(None)?
            .iter()
            .flat_map(|p| p.pins().iter().map(|pin| pin.id.clone()))
            .collect();
        let imported = Certificates::read(&[self.data.certificates()], |_| true)?;
        for cert in imported.iter() {
            let id = KeyId::OpenPgp(cert.fingerprint());
            if !pinned.contains(&id) {
                let name = cert.userids().next().map(|u| u.userid().to_string()).unwrap_or_default();
                let words = "imported, but no policy pins it".to_owned();
                let fingerprint = id.to_string();
                let row = KeyProblem {
                    policies: Vec::new(),
                    fingerprint: fingerprint.clone(),
                    name,
                    words,
                    urgent: false,
                    advice: None,
                };
                found.insert(fingerprint, row);
            }
        }
        Ok(found.into_values().collect())
    }

    /// The certificates that are here, also in mirrored folders. Asks no server.
    fn certificates_of(&self, policy: &Policy) -> Result<Certificates, FarmError> {
        let mut certificates = Certificates::pinned(policy, &self.places(&[]))?;
        self.find_in_folders(policy, &mut certificates)?;
        Ok(certificates)
    }
}
