//! Routes that are served beside the registry: their requests are limited, counted and logged like the registry's own.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};

use crate::access::{Client, Gate, Peer};
use crate::observe::Observer;

/// First words of paths, for the metrics: a fixed set, so that no client can make up metrics without end.
const KNOWN: [&str; 7] = ["git", "debian", "crates", "releases", "files", "depends-sources", "robots.txt"];

/// The same routes, limited, counted and logged.
pub(crate) fn counted(routes: Router, observer: Observer, gate: Gate) -> Router {
    routes.layer(from_fn_with_state((observer, gate), answer))
}

async fn answer(State((observer, gate)): State<(Observer, Gate)>, request: Request, next: Next) -> Response {
    let peer = Peer::of(request.extensions());
    let path = request.uri().path().to_owned();
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let name = KNOWN.iter().find(|known| **known == first).copied().unwrap_or("other");
    let (exchange, request) = observer.begin(peer.address, (name, None), request);
    let wait = gate.limiter.as_ref().and_then(|limiter| limiter.take_from(peer.address).err());
    let response = match wait {
        Some(wait) => {
            let wait = wait.as_secs_f64().ceil().to_string();
            let sentence = format!("too many requests: try again in {wait} s\n");
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, wait)], sentence).into_response()
        }
        None => next.run(request).await,
    };
    exchange.asks(&path).answer(&Client::default(), response)
}
