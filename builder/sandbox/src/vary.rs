//! The circumstances that must not matter to a build, and that can be changed for a second run of it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One circumstance. A build must make the same files whether it is changed or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vary {
    /// The order in which folders list their names (`listing.rs`).
    Order,
    /// The date and the time of day, for dynamic programs (`preload.rs`).
    Date,
    /// The time since boot, and what `/proc` shows of it.
    Uptime,
    /// The kernel's release, version and boot id.
    Kernel,
    /// The kind of the processors and the amount of memory. [`crate::Spec::processors`] has the number of processors.
    Hardware,
    /// The numbers that the kernel gives to namespaces, mounts, file systems and files.
    Numbers,
    /// The kind of file system that programs see (`filesystem.rs`).
    Disk,
    /// The addresses of programs in memory: random, or the same each time.
    Addresses,
    /// The file mode creation mask, which the caller sets.
    Umask,
    /// Which of several tasks starts first, if all could start at once. The caller passes it to programs that have an
    /// option for it.
    Schedule,
}

impl Vary {
    /// Every circumstance.
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

    /// The circumstance's name in options and documents.
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

/// The name is not one of [`Vary::name`].
#[derive(Debug, thiserror::Error)]
#[error("{name:?} is not one of {known}")]
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

/// The circumstances that are changed in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Varied(BTreeSet<Vary>);

impl Varied {
    /// All circumstances.
    pub fn all() -> Self {
        Vary::ALL.into_iter().collect()
    }

    /// The same circumstances without `vary`.
    #[must_use]
    pub fn without(mut self, vary: Vary) -> Self {
        self.0.remove(&vary);
        self
    }

    /// The circumstances, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = Vary> {
        self.0.iter().copied()
    }

    /// Whether `vary` is among them.
    pub fn has(&self, vary: Vary) -> bool {
        self.0.contains(&vary)
    }
}

impl FromIterator<Vary> for Varied {
    fn from_iter<T: IntoIterator<Item = Vary>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}
