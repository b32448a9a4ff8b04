//! Who is believed: policies, the certificates of the keys that they pin, and what was accepted before.

pub mod decide;
pub mod history;
pub mod keyring;
pub mod memory;
pub mod policies;
pub mod tag;

use std::path::PathBuf;

use hab_keys::{Certificates, Judge, Policy};

use crate::error::FarmError;
use history::{Bench, Histories};
use keyring::Keyring;
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

/// A policy with the certificates of its keys.
pub struct Court {
    /// The policy.
    pub policy: Policy,
    /// The certificates of its keys.
    pub certificates: Certificates,
}

impl Trust<'_> {
    /// The policy of that name, with the certificates that are here or can be found, and those in `more`.
    pub fn court(&self, policy: &str, more: &[PathBuf]) -> Result<Court, FarmError> {
        let policy = self.policies.get(policy)?;
        let certificates = self.keyring.certificates(&policy, more)?;
        Ok(Court { policy, certificates })
    }

    /// A judge for this court that remembers what this farm has seen.
    pub fn judge<'b>(&'b self, court: &'b Court) -> Judge<'b> {
        self.memory.judge(&court.policy, &court.certificates)
    }
}

impl Court {
    /// The policy and certificates, for judging histories.
    pub fn bench(&self) -> Bench<'_> {
        Bench { policy: &self.policy, certificates: &self.certificates }
    }
}
