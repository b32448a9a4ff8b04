//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::Registry;
use crate::error::chain;

/// OpenMetrics, which Prometheus asks for.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Who asks whether it is ready is not kept waiting.
const SOON: Duration = Duration::from_secs(2);

/// Asking costs the disk a file, and anybody may ask: so long counts what was found.
const AGAIN: Duration = Duration::from_secs(1);

/// What was found, and when. Held while it is found out, so that many who ask cost no more than one.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Mutex<Option<(Instant, Result<(), &'static str>)>>);

/// What watches the service asks these; they tell nothing of what is kept, so nobody has to say who they are.
pub(crate) fn router(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        // It answers, so it is alive.
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .with_state(registry)
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    match registry.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Ready is who can answer from the catalog, and keep what is pushed. That upstreams are away does not count: what is here
/// is served.
async fn ready(State(registry): State<Arc<Registry>>) -> Response {
    let mut known = registry.readiness.0.lock().await;
    let found = match *known {
        Some((at, found)) if at.elapsed() < AGAIN => found,
        _ => {
            let found = look(&registry).await;
            *known = Some((Instant::now(), found));
            found
        }
    };
    match found {
        Ok(()) => "ready\n".into_response(),
        Err(sentence) => (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response(),
    }
}

async fn look(registry: &Registry) -> Result<(), &'static str> {
    match timeout(SOON, registry.store.is_ready()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::error!(error = chain(&error), "not ready");
            Err("not ready: the data folder cannot be used; the log says why\n")
        }
        Err(_) => Err("not ready: the catalog does not answer in time\n"),
    }
}
