//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::timeout;

use crate::Registry;
use crate::error::chain;

/// OpenMetrics, which Prometheus asks for.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Who asks whether it is ready is not kept waiting.
const SOON: Duration = Duration::from_secs(2);

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
    let answer = match timeout(SOON, registry.store.is_ready()).await {
        Ok(Ok(())) => return "ready\n".into_response(),
        Ok(Err(error)) => {
            tracing::error!(error = chain(&error), "not ready");
            "not ready: the data folder cannot be used; the log says why\n"
        }
        Err(_) => "not ready: the catalog does not answer in time\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, answer).into_response()
}
