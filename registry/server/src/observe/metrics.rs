//! Metrics for Prometheus at `/metrics`: OpenMetrics text, every name begins with `hab_registry_`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hab_store::{Collected, Scrubbed, Store, Totals};
use hab_upstream::{Count, Freshness};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::entries::Answered;

/// All metrics. A clone is another handle on the same numbers.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    /// Guards the registered metrics; held while they are written out.
    registry: Mutex<Registry>,
    requests: Requests,
    pulls: Pulls,
    upkeep: Upkeep,
    stock: Stock,
    lines_lost: Counter,
    /// Guards the callbacks for further metrics; held while they are called.
    more: Mutex<Vec<More>>,
}

/// Metrics of requests to this service.
struct Requests {
    count: Family<RequestLabels, Counter>,
    seconds: Family<Route, Histogram>,
    received: Family<Route, Counter>,
    sent: Family<Route, Counter>,
    cut: Family<Route, Counter>,
    open: Gauge,
}

/// Metrics of pulls through upstreams.
struct Pulls {
    upstream: Family<Upstream, Counter>,
    answered: Family<Pulled, Counter>,
}

/// Metrics of collections and scrubs.
struct Upkeep {
    collections: Family<Outcome, Counter>,
    collected: Family<What, Counter>,
    collected_bytes: Counter,
    scrubbed: Family<What, Counter>,
    scrubbed_bytes: Counter,
}

/// Metrics of stored content.
struct Stock {
    kept: Family<What, Gauge>,
    bytes: Gauge,
    free: Gauge,
}

/// Returns further metric families, as OpenMetrics text without the last line.
type More = Box<dyn Fn() -> String + Send + Sync>;

/// The last line of the text.
const END: &str = "# EOF\n";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Upstream {
    upstream: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pulled {
    upstream: String,
    kind: &'static str,
    cache: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

/// How much is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    totals: Totals,
    /// Free bytes of the file system.
    free: u64,
}

impl Storage {
    pub(crate) async fn of(store: &Store) -> hab_store::Result<Self> {
        Ok(Self { totals: store.catalog.totals().await?, free: store.blobs.free()? })
    }
}

impl Metrics {
    /// Metrics that start at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("hab_registry");
        let inner = Inner {
            requests: Requests::of(&mut registry),
            pulls: Pulls::of(&mut registry),
            upkeep: Upkeep::of(&mut registry),
            stock: Stock::of(&mut registry),
            lines_lost: of(&mut registry, "access_log_lost", "Lines that the access log could not take"),
            registry: Mutex::default(),
            more: Mutex::default(),
        };
        let about = "Time from a request's head to the last byte of its answer";
        registry.register_with_unit("request", about, Unit::Seconds, inner.requests.seconds.clone());
        *inner.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        Self(Arc::new(inner))
    }

    /// All metrics as OpenMetrics text.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        let more = self.0.more.lock().unwrap_or_else(PoisonError::into_inner);
        if !more.is_empty() {
            text.truncate(text.strip_suffix(END).map_or(text.len(), str::len));
            text.extend(more.iter().map(|more| more()));
            text.push_str(END);
        }
        Ok(text)
    }

    /// Adds the metrics that `more` returns to every answer: whole families as OpenMetrics text, without the last line.
    /// `more` is called for every request of `/metrics`, so it must have its numbers at hand.
    pub fn also(&self, more: impl Fn() -> String + Send + Sync + 'static) {
        self.0.more.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(more));
    }

    /// Counts a request that has come.
    pub(crate) fn asked(&self) {
        self.0.requests.open.inc();
    }

    /// Counts a request that is over.
    pub(crate) fn answered(&self, answered: &Answered) {
        let Answered { route, method, status, seconds, received, sent, whole } = *answered;
        let all = &self.0.requests;
        all.open.dec();
        all.count.get_or_create(&RequestLabels { route, method, status }).inc();
        let route = Route { route };
        all.seconds.get_or_create(&route).observe(seconds);
        all.sent.get_or_create(&route).inc_by(sent);
        if received > 0 {
            all.received.get_or_create(&route).inc_by(received);
        }
        if !whole {
            all.cut.get_or_create(&route).inc();
        }
    }

    /// The counter of requests to upstreams.
    pub(crate) fn of_upstreams(&self) -> Arc<dyn Count> {
        Arc::new(self.clone())
    }

    /// Counts an answer from an upstream's repository; `kind`: `manifest`, `blob`, `referrers` or `tags`.
    pub(crate) fn pulled(&self, upstream: &str, kind: &'static str, from: Freshness) {
        let labels = Pulled { upstream: upstream.to_owned(), kind, cache: from.word() };
        self.0.pulls.answered.get_or_create(&labels).inc();
    }

    /// Counts a finished collection; `None` if it failed.
    pub fn collected(&self, gone: Option<&Collected>) {
        let all = &self.0.upkeep;
        let outcome = if gone.is_some() { "done" } else { "failed" };
        all.collections.get_or_create(&Outcome { outcome }).inc();
        if let Some(gone) = gone {
            for (what, count) in
                [("tags", gone.tags.len() as u64), ("manifests", gone.manifests), ("blobs", gone.blobs)]
            {
                all.collected.get_or_create(&What { what }).inc_by(count);
            }
            all.collected_bytes.inc_by(gone.bytes);
        }
    }

    /// Counts another part that a scrub has read.
    pub fn scrubbed(&self, part: &Scrubbed) {
        let all = &self.0.upkeep;
        for (what, count) in [
            ("files", part.files),
            ("damaged", part.damaged.len() as u64),
            ("missing", part.missing.len() as u64),
            ("mended", part.mended.len() as u64),
            ("strays", part.strays),
        ] {
            all.scrubbed.get_or_create(&What { what }).inc_by(count);
        }
        all.scrubbed_bytes.inc_by(part.bytes);
    }

    pub(crate) fn stored(&self, Storage { totals, free }: Storage) {
        let all = &self.0.stock;
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for (what, count) in [
            ("repositories", totals.repositories),
            ("tags", totals.tags),
            ("manifests", totals.manifests),
            ("blobs", totals.blobs),
        ] {
            all.kept.get_or_create(&What { what }).set(gauge(count));
        }
        all.bytes.set(gauge(totals.bytes));
        all.free.set(gauge(free));
    }

    pub(crate) fn lines_lost(&self, count: u64) {
        self.0.lines_lost.inc_by(count);
    }
}

impl Count for Metrics {
    fn asked(&self, upstream: &str, result: &'static str) {
        self.0.pulls.upstream.get_or_create(&Upstream { upstream: upstream.to_owned(), result }).inc();
    }
}

impl Requests {
    fn of(registry: &mut Registry) -> Self {
        Self {
            count: of(registry, "requests", "Requests that were answered"),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            received: of(registry, "received_bytes", "Bytes of requests' bodies"),
            sent: of(registry, "sent_bytes", "Bytes of answers' bodies"),
            cut: of(registry, "cut", "Answers that were cut off before their end"),
            open: of(registry, "open_requests", "Requests that are being answered"),
        }
    }
}

impl Pulls {
    fn of(registry: &mut Registry) -> Self {
        let answered = "Pulls of upstreams' repositories by where the answer came from";
        Self {
            upstream: of(registry, "upstream_requests", "Requests to upstreams by result"),
            answered: of(registry, "cache", answered),
        }
    }
}

impl Upkeep {
    fn of(registry: &mut Registry) -> Self {
        Self {
            collections: of(registry, "collections", "Collections by their outcome"),
            collected: of(registry, "collected", "What collections removed"),
            collected_bytes: of(registry, "collected_bytes", "Bytes of files that collections removed"),
            scrubbed: of(registry, "scrubbed", "What the scrub saw"),
            scrubbed_bytes: of(registry, "scrubbed_bytes", "Bytes that the scrub hashed"),
        }
    }
}

impl Stock {
    fn of(registry: &mut Registry) -> Self {
        Self {
            kept: of(registry, "stored", "What is stored, as of a few minutes ago"),
            bytes: of(registry, "stored_bytes", "Bytes of all blobs, as of a few minutes ago"),
            free: of(registry, "free_bytes", "Free bytes of the file system"),
        }
    }
}

/// Limits of the histogram, in seconds: from a manifest out of memory to a large layer.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

fn of<M>(registry: &mut Registry, name: &str, about: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    let metric = M::default();
    registry.register(name, about, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
