//! What a registry is made of.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::Method;
use hab_store::{Gaps, Pulls, Store};
use hab_turns::Turns;

use crate::access::{AccessError, Guard, Limiter, Rate};
use crate::error::Error;
use crate::forwarded::Front;
use crate::kept::Kept;
use crate::network::Network;
use crate::observe::{AccessLog, Metrics, Readiness};
use crate::tls::Tls;
use crate::upstream::Upstreams;

/// What anybody may do at all; a [`Guard`] says who of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// Nobody may push or delete.
    #[default]
    ReadOnly,
    /// Without a guard, everybody who can reach the listener may push and delete.
    ReadWrite,
}

/// How much of anything one client can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest; the specification asks for at least 4 MiB.
    pub manifest: usize,
    /// Bytes of a blob.
    pub blob: u64,
    /// How long a client may take for its TLS handshake, and for a request's head, from its first byte to its last.
    pub head: Duration,
    /// How long a client may keep a connection on which it asks nothing.
    pub keep: Duration,
    /// How long a client that sends a body may go without sending a byte, and the time over which its `pace` is measured.
    pub idle: Duration,
    /// The time over which the `pace` of a client is measured that is sent an answer: it may pause for so long.
    pub taking: Duration,
    /// The fewest bytes a second that a client has to send of a body, or to take of an answer, while it is waited for.
    pub pace: u64,
    /// How long what a client still sends is thrown away after it was answered early.
    pub linger: Duration,
    /// How long open requests may go on after a shutdown was asked for.
    pub drain: Duration,
    /// Connections at the same time.
    pub connections: usize,
    /// Connections of one client at the same time: an IPv4 address, or a /64 of IPv6.
    pub connections_each: usize,
    /// Networks of proxies and of many clients behind one address: each may have three quarters of all connections, as an
    /// address of this machine itself may.
    pub trusted: Vec<Network>,
    /// How long an upload may stay unfinished.
    pub upload: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest: 4 << 20,
            blob: 64 << 30,
            head: Duration::from_secs(10),
            keep: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            taking: Duration::from_secs(120),
            pace: 1 << 10,
            linger: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            connections: 1024,
            connections_each: 128,
            trusted: Vec::new(),
            upload: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Large manifests at a time, and those of one client; each takes some ten times its size in memory for a moment.
const LARGE: usize = 8;
const LARGE_EACH: usize = 2;

impl Limits {
    /// How many connections the client at this address may have; never all of them, where there are four or more.
    pub(crate) fn connections_of(&self, address: IpAddr) -> usize {
        let most = self.connections - self.connections / 4;
        if self.is_trusted(address) { most } else { self.connections_each.clamp(1, most.max(1)) }
    }

    /// Whether the client at this address may have more than others.
    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.trusted.iter().any(|network| network.has(address))
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
    pub(crate) guard: Option<Arc<Guard>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) metrics: Metrics,
    pub(crate) log: Option<AccessLog>,
    pub(crate) front: Arc<Front>,
    pub(crate) readiness: Arc<Readiness>,
    /// Large manifests that are read into memory and published.
    pub(crate) large: Turns,
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
            guard: None,
            limiter: None,
            tls: None,
            kept: Arc::default(),
            metrics: Metrics::new(),
            log: None,
            front: Arc::default(),
            readiness: Arc::default(),
            large: Turns::new(LARGE, LARGE_EACH),
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

    /// The same registry, behind something.
    #[must_use]
    pub fn with_front(mut self, front: Front) -> Self {
        self.front = Arc::new(front);
        self
    }

    /// The same registry, for accounts.
    #[must_use]
    pub fn with_guard(mut self, guard: Guard) -> Self {
        self.guard = Some(Arc::new(guard));
        self
    }

    /// The same registry, for so many requests of one client.
    pub fn with_rate(mut self, rate: Rate) -> Result<Self, AccessError> {
        self.limiter = Some(Arc::new(Limiter::new(rate)?));
        Ok(self)
    }

    /// The same registry, counting there.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// The same registry, which writes a line for every request but those that watch it.
    #[must_use]
    pub fn with_access_log(mut self, log: AccessLog) -> Self {
        self.log = Some(log);
        self
    }

    /// The same registry, served over TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(Arc::new(tls));
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
