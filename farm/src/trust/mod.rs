//! Who is believed: policies, the certificates of the keys that they pin, and what was accepted before.

pub mod decide;
pub mod history;
pub mod keyring;
pub mod loaded;
pub mod memory;
pub mod policies;
pub mod tag;

use std::path::PathBuf;

use hab_keys::Judge;

use crate::error::FarmError;
use history::Histories;
use keyring::Keyring;
use loaded::LoadedPolicy;
use memory::Memory;
use policies::Policies;

/// Everything that a judgement needs.
#[derive(Clone, Copy)]
pub struct Trust<'a> {
    /// The policies.
    pub policies: &'a Policies,
    /// The certificates of pinned keys.
    pub keyring: Keyring<'a>,
    /// Remembers when signatures were first seen.
    pub memory: Memory<'a>,
    /// Remembers how far histories were verified.
    pub histories: Histories<'a>,
}

impl Trust<'_> {
    /// The policy of that name, with the certificates that are here or can be found, and those in `more`.
    pub fn load(&self, policy: &str, more: &[PathBuf]) -> Result<LoadedPolicy, FarmError> {
        let policy = self.policies.get(policy)?;
        let certificates = self.keyring.certificates(&policy, more)?;
        Ok(LoadedPolicy { policy, certificates })
    }

    /// A judge by this policy that remembers what this farm has seen.
    pub fn judge<'b>(&'b self, loaded: &'b LoadedPolicy) -> Judge<'b> {
        self.memory.judge(&loaded.policy, &loaded.certificates)
    }
}
