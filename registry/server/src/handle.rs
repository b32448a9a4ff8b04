//! Routes a request to the one function that answers it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hab_upstream::Remote;
use serde::Deserialize;

use crate::access::{Action, Client, Peer, Permit, RequestContext, TOKEN_PATH};
use crate::error::Error;
use crate::http::{CACHE, query};
use crate::route::{Endpoint, Route};
use crate::{Registry, blobs, catalog, manifests, observe, referrers, tags, token, uploads};

/// The routes below `/v2`, and those of monitoring. Serve them alone ([`serve`](crate::serve())), or merge them with
/// others.
pub fn router(registry: Registry) -> Router {
    let metrics = registry.observer.metrics.clone();
    registry.upstreams.count_in(&metrics.of_upstreams());
    let readiness = registry.readiness.clone();
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*path}", any(handle))
        .with_state(Arc::new(registry))
        .merge(observe::router(metrics, readiness))
}

async fn handle(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let peer = Peer::of(request.extensions());
    let mut client = Client::default();
    let path = request.uri().path();
    let route = Route::of_path(path);
    let name = match &route {
        _ if path == TOKEN_PATH => "token",
        Ok(route) => route.name(),
        Err(_) => "none",
    };
    let named = (name, route.as_ref().ok());
    let (exchange, request) = registry.observer.begin(peer.address, named, request);
    let answered = dispatch(&registry, route, request, &peer, &mut client).await;
    if let Err(Error::Store(error)) = &answered {
        registry.readiness.saw(error);
    }
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    let version = HeaderName::from_static("docker-distribution-api-version");
    response.headers_mut().insert(version, HeaderValue::from_static("registry/2.0"));
    exchange.answer(&client, response)
}

async fn dispatch(
    registry: &Registry,
    route: Result<Route, Error>,
    request: Request,
    peer: &Peer,
    client: &mut Client,
) -> Result<Response, Error> {
    let gate = &registry.gate;
    if request.uri().path() == TOKEN_PATH {
        return token::exchange(gate, registry.limits.idle, request, client).await;
    }
    let method = request.method().clone();
    let scene = RequestContext { headers: request.headers(), peer };
    let caller = gate.identify(&scene).await?;
    client.name = caller.name().cloned();
    if !gate.access.permits(&method) {
        return Err(Error::ReadOnly);
    }
    match route? {
        Route::Base => match method {
            Method::GET | Method::HEAD => {
                gate.greet(&caller, &scene)?;
                Ok(([(header::CONTENT_TYPE, "application/json")], "{}").into_response())
            }
            _ => Err(Error::Method("GET, HEAD")),
        },
        Route::Catalog => match method {
            Method::GET | Method::HEAD => {
                let view = gate.view(&caller, &scene)?;
                catalog::list(&registry.store.catalog, &registry.upstreams, &view, request.uri()).await
            }
            _ => Err(Error::Method("GET, HEAD")),
        },
        Route::Repository(name, endpoint) => {
            let Origin { ns } = query(request.uri())?;
            let action = endpoint.action(&method);
            let remote = match registry.upstreams.find(&name, ns.as_deref()) {
                Ok(remote) => remote,
                Err(error) => {
                    // Checked first, because what is wrong with a name reveals something about what is here.
                    gate.authorise(&caller, &name, action, &scene)?;
                    return Err(error.into());
                }
            };
            let local = remote.as_ref().map_or(&name, |remote| &remote.local);
            let permit = gate.authorise(&caller, local, action, &scene)?;
            match &remote {
                Some(remote) => {
                    let response = through(registry, remote, &permit, endpoint, request).await?;
                    Ok(of_origin(response, ns.as_deref()))
                }
                None => at(registry, &permit, endpoint, request).await,
            }
        }
    }
}

impl Endpoint {
    /// The action that a request needs a permit for. A method that an endpoint does not support counts as a write.
    fn action(&self, method: &Method) -> Action {
        match self {
            Self::Manifest(_) | Self::Blob(_) | Self::Tags | Self::Referrers(_) => match *method {
                Method::DELETE => Action::Delete,
                _ if method.is_safe() => Action::Pull,
                _ => Action::Push,
            },
            // Only clients that may push can ask for the state of an upload, and cancel it.
            Self::Uploads | Self::Upload(_) => Action::Push,
        }
    }
}

/// The registry that a mirror's client means: the query's `ns` (distribution specification, "Registry Proxying").
#[derive(Deserialize)]
struct Origin {
    ns: Option<String>,
}

/// Adds the header that shows that `ns` was read (distribution specification, "Registry Proxying").
fn of_origin(mut response: Response, ns: Option<&str>) -> Response {
    if let Some(value) = ns.and_then(|ns| HeaderValue::try_from(ns).ok()) {
        response.headers_mut().insert(HeaderName::from_static("oci-namespace"), value);
    }
    response
}

/// Answers a request for an upstream's repository, which can only be pulled. A header tells the client where the answer
/// came from, and the metrics count that.
async fn through(
    registry: &Registry,
    remote: &Remote,
    permit: &Permit<'_>,
    endpoint: Endpoint,
    request: Request,
) -> Result<Response, Error> {
    if !request.method().is_safe() {
        return Err(Error::ReadOnly);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return at(registry, permit, endpoint, request).await;
    }
    let Registry { store, limits, pulls, .. } = registry;
    let (head, body) = request.into_parts();
    let (kind, (mut response, freshness)) = match endpoint {
        Endpoint::Manifest(reference) => {
            let limit = limits.manifest;
            ("manifest", manifests::get_through(store, pulls, limit, remote, &reference, &head).await?)
        }
        Endpoint::Blob(digest) => ("blob", blobs::get_through(store, limits, remote, &digest, &head).await?),
        Endpoint::Referrers(digest) => {
            let limit = limits.manifest;
            ("referrers", referrers::list_through(store, limit, remote, &digest, &head.uri).await?)
        }
        Endpoint::Tags => ("tags", tags::list_through(store, remote, &head.uri).await?),
        Endpoint::Uploads | Endpoint::Upload(_) => {
            return at(registry, permit, endpoint, Request::from_parts(head, body)).await;
        }
    };
    response.headers_mut().insert(CACHE, HeaderValue::from_static(freshness.word()));
    registry.observer.metrics.pulled(remote.upstream_name(), kind, freshness);
    Ok(response)
}

async fn at(
    registry: &Registry,
    permit: &Permit<'_>,
    endpoint: Endpoint,
    request: Request,
) -> Result<Response, Error> {
    let Registry { store, limits, .. } = registry;
    let catalog = &store.catalog;
    let (name, method) = (permit.repository(), request.method().clone());
    let (head, body) = request.into_parts();
    match endpoint {
        Endpoint::Manifest(reference) => match method {
            Method::GET | Method::HEAD => {
                manifests::get(store, &registry.kept, &registry.pulls, name, &reference, &head).await
            }
            Method::PUT => {
                let (rules, large) = (&registry.rules, &registry.large);
                let request = Request::from_parts(head, body);
                manifests::put(store, limits, rules, large, name, &reference, request).await
            }
            Method::DELETE => manifests::delete(catalog, name, &reference, &head.headers).await,
            _ => Err(Error::Method("GET, HEAD, PUT, DELETE")),
        },
        Endpoint::Blob(digest) => match method {
            Method::GET | Method::HEAD => blobs::get(store, name, &digest, &head).await,
            Method::DELETE => blobs::delete(catalog, name, &digest, &head.headers).await,
            _ => Err(Error::Method("GET, HEAD, DELETE")),
        },
        Endpoint::Uploads => match method {
            Method::POST => {
                let request = Request::from_parts(head, body);
                uploads::start(store, &registry.upstreams, limits, permit, request).await
            }
            _ => Err(Error::Method("POST")),
        },
        Endpoint::Upload(id) => match method {
            Method::GET => uploads::status(store, name, &id).await,
            Method::PATCH => uploads::append(store, limits, name, &id, Request::from_parts(head, body)).await,
            Method::PUT => uploads::finish(store, limits, name, &id, Request::from_parts(head, body)).await,
            Method::DELETE => uploads::cancel(store, name, &id).await,
            _ => Err(Error::Method("GET, PATCH, PUT, DELETE")),
        },
        Endpoint::Tags => match method {
            Method::GET | Method::HEAD => tags::list(catalog, name, &head.uri).await,
            _ => Err(Error::Method("GET, HEAD")),
        },
        Endpoint::Referrers(digest) => match method {
            Method::GET | Method::HEAD => referrers::list(catalog, name, &digest, &head.uri).await,
            _ => Err(Error::Method("GET, HEAD")),
        },
    }
}
