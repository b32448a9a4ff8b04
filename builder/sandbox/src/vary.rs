//! What must not matter to a build, and can be made another for a second run of it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One circumstance. What a build makes must be the same with and without it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vary {
    /// In which order folders list what is in them (`listing.rs`).
    Order,
    /// The date and the time of day, for dynamic programs (`preload.rs`).
    Date,
    /// The time since boot, and what `/proc` says of it.
    Uptime,
    /// The kernel's release, version and boot.
    Kernel,
    /// What the processors and the memory are; how many processors, [`crate::Spec::processors`] says.
    Hardware,
    /// The numbers that the kernel gives to namespaces, mounts, file systems and files.
    Numbers,
    /// What the file systems say that they are (`filesystem.rs`).
    Disk,
    /// Where programs lie in memory: at random places, or each time at the same ones.
    Addresses,
    /// The file mode creation mask, which the caller sets.
    Umask,
    /// What starts first of what could start at once. The caller says it to programs that can be told.
    Schedule,
}

impl Vary {
    /// Every one of them.
    pub const ALL: [Self; 10] = [
        Self::Order,
        Self::Date,
        Self::Uptime,
        Self::Kernel,
        Self::Hardware,
        Self::Numbers,
        Self::Disk,
        Self::Addresses,
        Self::Umask,
        Self::Schedule,
    ];

    /// Its name in options and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Date => "date",
            Self::Uptime => "uptime",
            Self::Kernel => "kernel",
            Self::Hardware => "hardware",
            Self::Numbers => "numbers",
            Self::Disk => "disk",
            Self::Addresses => "addresses",
            Self::Umask => "umask",
            Self::Schedule => "schedule",
        }
    }
}

impl fmt::Display for Vary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of [`Vary::name`].
#[derive(Debug, thiserror::Error)]
#[error("{name:?} is none of {known}")]
pub struct UnknownVary {
    name: String,
    known: String,
}

impl FromStr for Vary {
    type Err = UnknownVary;

    fn from_str(text: &str) -> Result<Self, UnknownVary> {
        let unknown = || UnknownVary { name: text.to_owned(), known: Self::ALL.map(Self::name).join(", ") };
        Self::ALL.into_iter().find(|vary| vary.name() == text).ok_or_else(unknown)
    }
}

/// What is changed in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Varied(BTreeSet<Vary>);

impl Varied {
    /// Everything.
    pub fn all() -> Self {
        Vary::ALL.into_iter().collect()
    }

    /// Without one of them.
    #[must_use]
    pub fn without(mut self, vary: Vary) -> Self {
        self.0.remove(&vary);
        self
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Vary> {
        self.0.iter().copied()
    }

    /// Whether one of them is.
    pub fn has(&self, vary: Vary) -> bool {
        self.0.contains(&vary)
    }
}

impl FromIterator<Vary> for Varied {
    fn from_iter<T: IntoIterator<Item = Vary>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}
