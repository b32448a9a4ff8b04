//! The registry and its settings.

use std::sync::Arc;

use hab_store::{Pulls, Store};
use hab_turns::Turns;
use hab_upstream::Upstreams;

use crate::access::{Access, AccessError, Gate, Guard, Limiter, Rate};
use crate::forwarded::Front;
use crate::kept::ManifestCache;
use crate::limits::{Rules, ServiceLimits};
use crate::observe::{AccessLog, Metrics, Observer, Readiness};
use crate::tls::Tls;

/// Large manifests at a time, in all and of one client. Each takes about ten times its size in memory for a moment.
const LARGE: usize = 8;
const LARGE_EACH: usize = 2;

/// A registry over a store.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) store: Store,
    pub(crate) gate: Gate,
    pub(crate) limits: ServiceLimits,
    pub(crate) rules: Rules,
    pub(crate) upstreams: Upstreams,
    pub(crate) pulls: Pulls,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) kept: Arc<ManifestCache>,
    pub(crate) observer: Observer,
    pub(crate) front: Arc<Front>,
    pub(crate) readiness: Arc<Readiness>,
    /// Turns to read a large manifest into memory and publish it.
    pub(crate) large: Turns,
}

impl Registry {
    /// A registry with the default limits.
    pub fn new(store: Store, access: Access) -> Self {
        Self {
            readiness: Arc::new(Readiness::of(store.clone())),
            store,
            gate: Gate::new(access),
            limits: ServiceLimits::default(),
            rules: Rules::default(),
            upstreams: Upstreams::default(),
            pulls: Pulls::default(),
            tls: None,
            kept: Arc::default(),
            observer: Observer { metrics: Metrics::new(), log: None },
            front: Arc::default(),
            large: Turns::new(LARGE, LARGE_EACH),
        }
    }

    /// The same registry with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: ServiceLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same registry with other rules.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// The same registry, with upstreams to pull through.
    #[must_use]
    pub fn with_upstreams(mut self, upstreams: Upstreams) -> Self {
        self.upstreams = upstreams;
        self
    }

    /// The same registry, behind proxies or with a public address.
    #[must_use]
    pub fn with_front(mut self, front: Front) -> Self {
        self.front = Arc::new(front);
        self
    }

    /// The same registry, with accounts and access rules.
    #[must_use]
    pub fn with_guard(mut self, guard: Guard) -> Self {
        self.gate.guard = Some(Arc::new(guard));
        self
    }

    /// The same registry, with a limit on the requests of one client.
    pub fn with_rate(mut self, rate: Rate) -> Result<Self, AccessError> {
        self.gate.limiter = Some(Arc::new(Limiter::new(rate)?));
        Ok(self)
    }

    /// The same registry, counting in these metrics.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.observer.metrics = metrics;
        self
    }

    /// The same registry, which logs a line for every request except those of monitoring.
    #[must_use]
    pub fn with_access_log(mut self, log: AccessLog) -> Self {
        self.observer.log = Some(log);
        self
    }

    /// The same registry, served over TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        let tls = Arc::new(tls);
        self.gate.authorities = Some(tls.clone());
        self.tls = Some(tls);
        self
    }
}
