//! Which requirements a source must meet: names, combined by `all` and `any`.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;

/// An expression: `"release-tag"`, `{ all = […] }` or `{ any = […] }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "the name of a requirement, { all = [...] } or { any = [...] }"
)]
pub enum Accept {
    /// One requirement.
    Name(String),
    /// Every one of these.
    All {
        /// The expressions that must all be met.
        all: Vec<Accept>,
    },
    /// At least one of these.
    Any {
        /// The expressions of which one must be met.
        any: Vec<Accept>,
    },
}

impl Accept {
    /// Whether the requirements in `met` are enough.
    pub fn met_by(&self, met: &BTreeSet<String>) -> bool {
        match self {
            Self::Name(name) => met.contains(name),
            Self::All { all } => all.iter().all(|a| a.met_by(met)),
            Self::Any { any } => any.iter().any(|a| a.met_by(met)),
        }
    }

    /// The names of all requirements in it.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Name(name) => vec![name],
            Self::All { all: inner } | Self::Any { any: inner } => {
                inner.iter().flat_map(Self::names).collect()
            }
        }
    }

    /// Whether part of it is always met, or can never be met, because a list is empty.
    pub(super) fn is_hollow(&self) -> bool {
        match self {
            Self::Name(_) => false,
            Self::All { all: inner } | Self::Any { any: inner } => {
                inner.is_empty() || inner.iter().any(Self::is_hollow)
            }
        }
    }
}

impl fmt::Display for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, inner: &[Accept], word: &str| {
            for (n, accept) in inner.iter().enumerate() {
                if n > 0 {
                    write!(f, " {word} ")?;
                }
                match accept {
                    Self::Name(name) => write!(f, "{name}")?,
                    other => write!(f, "({other})")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Name(name) => f.write_str(name),
            Self::All { all } => list(f, all, "and"),
            Self::Any { any } => list(f, any, "or"),
        }
    }
}
