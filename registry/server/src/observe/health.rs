//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hab_store::{Error as StoreError, Store};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::metrics::Metrics;
use hab_chain::chain;

/// OpenMetrics, which Prometheus asks for.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The answer for clients. Only the log says where the catalog is and what to do.
const DAMAGED: &str = "not ready: the catalog is damaged; the log says which file, and what to do\n";
/// The longest wait for a check, so that `/readyz` answers soon.
const SOON: Duration = Duration::from_secs(2);

/// How long a result counts. Each check writes to the disk, and anybody may ask for one.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether the service is ready, with the last result.
#[derive(Debug)]
pub(crate) struct Readiness {
    store: Store,
    /// The last result, and its time. Held during a check, so that many who ask at once cost one check.
    known: Mutex<Option<(Instant, Result<(), &'static str>)>>,
    /// The catalog's file was found to be damaged. It does not heal by itself.
    damaged: AtomicBool,
}

impl Readiness {
    pub(crate) fn of(store: Store) -> Self {
        Self { store, known: Mutex::default(), damaged: AtomicBool::new(false) }
    }

    /// Takes note of a failed request's error. Once the catalog is known to be damaged, the service is never ready
    /// again, even if other content can still be read.
    pub(crate) fn saw(&self, error: &StoreError) {
        if error.is_catalog_damage() && !self.damaged.swap(true, Ordering::Relaxed) {
            let (catalog, hint) = (self.store.catalog.path().display(), error.hint().unwrap_or_default());
            tracing::error!(%catalog, error = chain(error), hint, "the catalog is damaged");
        }
    }

    async fn look(&self) -> Result<(), &'static str> {
        match timeout(SOON, self.store.is_ready()).await {
            Ok(Ok(())) if self.damaged.load(Ordering::Relaxed) => Err(DAMAGED),
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.saw(&error);
                if error.is_catalog_damage() {
                    return Err(DAMAGED);
                }
                tracing::error!(error = chain(&error), "not ready");
                Err("not ready: the data folder cannot be used; the log says why\n")
            }
            Err(_) => Err("not ready: the catalog does not answer in time\n"),
        }
    }
}

/// The routes for monitoring. They reveal nothing about stored content, so they need no account.
pub(crate) fn router(metrics: Metrics, readiness: Arc<Readiness>) -> Router {
    Router::new()
        .route("/metrics", get(text).with_state(metrics))
        // It answers, so it is alive.
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready).with_state(readiness))
}

async fn text(State(metrics): State<Metrics>) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The service is ready if it can answer from the catalog and store a push. An unreachable upstream does not matter:
/// stored content is served.
async fn ready(State(readiness): State<Arc<Readiness>>) -> Response {
    let mut known = readiness.known.lock().await;
    let found = match *known {
        Some((at, found)) if at.elapsed() < AGAIN => found,
        _ => {
            let found = readiness.look().await;
            *known = Some((Instant::now(), found));
            found
        }
    };
    match found {
        Ok(()) => "ready\n".into_response(),
        Err(sentence) => (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response(),
    }
}
