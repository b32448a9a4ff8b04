//! What a registry is made of.

use std::time::{Duration, SystemTime};

use axum::http::Method;
use hab_store::{Gaps, Pulls, Store};

use crate::upstream::Upstreams;

use crate::error::Error;

/// Who may do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// Everybody may pull; nobody may push.
    #[default]
    ReadOnly,
    /// Everybody who can reach the listener may pull, push and delete.
    ReadWrite,
}

/// How much of anything one client can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest; the specification asks for at least 4 MiB.
    pub manifest: usize,
    /// Bytes of a blob.
    pub blob: u64,
    /// How long a client may take for a request's head, and may keep an idle connection.
    pub head: Duration,
    /// How long a client may go without sending a byte that is waited for, or taking one that is offered.
    pub idle: Duration,
    /// How long open requests may go on after a shutdown was asked for.
    pub drain: Duration,
    /// Connections at the same time; more of them wait to be accepted.
    pub connections: usize,
    /// How long an upload may stay unfinished.
    pub upload: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest: 4 << 20,
            blob: 64 << 30,
            head: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            connections: 1024,
            upload: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// What is accepted of those who may push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What a pushed manifest may name that its repository does not hold.
    pub gaps: Gaps,
}

impl Default for Rules {
    fn default() -> Self {
        Self { gaps: Gaps::Indexes }
    }
}

/// A registry over a store.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) store: Store,
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    pub(crate) rules: Rules,
    pub(crate) upstreams: Upstreams,
    pub(crate) pulls: Pulls,
}

impl Registry {
    /// A registry with the default limits.
    pub fn new(store: Store, access: Access) -> Self {
        Self {
            store,
            access,
            limits: Limits::default(),
            rules: Rules::default(),
            upstreams: Upstreams::default(),
            pulls: Pulls::default(),
        }
    }

    /// The same registry with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same registry with other rules.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// The same registry, through which others may be pulled.
    #[must_use]
    pub fn with_upstreams(mut self, upstreams: Upstreams) -> Self {
        self.upstreams = upstreams;
        self
    }

    /// Whether a request of this method may be answered at all.
    pub(crate) fn permit(&self, method: &Method) -> Result<(), Error> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly if method.is_safe() => Ok(()),
            Access::ReadOnly => Err(Error::ReadOnly),
        }
    }
}

/// The clock, read here alone, in unix seconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
