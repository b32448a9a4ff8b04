//! From a request to the one function that answers it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hab_upstream::Remote;
use serde::Deserialize;

use crate::access::{Action, Client, Peer, Permit, Scene, TOKEN_PATH};
use crate::error::Error;
use crate::http::{CACHE, query};
use crate::observe::Exchange;
use crate::route::{Endpoint, Route};
use crate::{Registry, blobs, catalog, manifests, observe, referrers, tags, token, uploads};

/// The routes below `/v2`, and those that watch it, to be served alone ([`serve`](crate::serve())) or merged with others.
pub fn router(registry: Registry) -> Router {
    registry.upstreams.count_in(&registry.metrics.of_upstreams());
    let registry = Arc::new(registry);
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*path}", any(handle))
        .with_state(registry.clone())
        .merge(observe::router(registry))
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
    let (exchange, request) =
        Exchange::begin(&registry.metrics, registry.log.as_ref(), peer.address, named, request);
    let answered = dispatch(&registry, route, request, &peer, &mut client).await;
    if let Err(Error::Store(error)) = &answered {
        registry.readiness.saw(error, registry.store.catalog.path());
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
    let scene = Scene { headers: request.headers(), peer };
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
                catalog::list(registry, &view, request.uri()).await
            }
            _ => Err(Error::Method("GET, HEAD")),
        },
        Route::Repository(name, endpoint) => {
            let Origin { ns } = query(request.uri())?;
            let action = endpoint.action(&method);
            let remote = match registry.upstreams.find(&name, ns.as_deref()) {
                Ok(remote) => remote,
                Err(error) => {
                    // What is wrong with a name says something of what is here.
                    gate.authorise(&caller, &name, action, &scene)?;
                    return Err(error.into());
                }
            };
            let local = remote.as_ref().map_or(&name, |remote| &remote.local);
            let permit = gate.authorise(&caller, local, action, &scene)?;
            match &remote {
                Some(remote) => {
                    let response = through(registry, &method, remote, &permit, endpoint, request).await?;
                    Ok(of_origin(response, ns.as_deref()))
                }
                None => at(registry, &method, &permit, endpoint, request).await,
            }
        }
    }
}

impl Endpoint {
    /// What a request does, whatever comes of it. A method that an endpoint does not know is one that would write.
    fn action(&self, method: &Method) -> Action {
        match self {
            Self::Manifest(_) | Self::Blob(_) | Self::Tags | Self::Referrers(_) => match *method {
                Method::DELETE => Action::Delete,
                _ if method.is_safe() => Action::Pull,
                _ => Action::Push,
            },
            // How far an upload is, and that it is given up, is for who pushes.
            Self::Uploads | Self::Upload(_) => Action::Push,
        }
    }
}

/// The registry that a mirror's client means: `ns` (distribution specification, "Registry Proxying").
#[derive(Deserialize)]
struct Origin {
    ns: Option<String>,
}

/// Who reads `ns` says so in the answer (distribution specification, "Registry Proxying").
fn of_origin(mut response: Response, ns: Option<&str>) -> Response {
    if let Some(value) = ns.and_then(|ns| HeaderValue::try_from(ns).ok()) {
        response.headers_mut().insert(HeaderName::from_static("oci-namespace"), value);
    }
    response
}

/// A repository of an upstream: it is pulled, and nothing else. Where the answer came from is said to the client and to
/// who watches.
async fn through(
    registry: &Registry,
    method: &Method,
    remote: &Remote,
    permit: &Permit<'_>,
    endpoint: Endpoint,
    request: Request,
) -> Result<Response, Error> {
    let (kind, (mut response, freshness)) = match (endpoint, method) {
        (_, method) if !method.is_safe() => return Err(Error::ReadOnly),
        (Endpoint::Manifest(reference), &(Method::GET | Method::HEAD)) => {
            let got = manifests::get_through(registry, remote, &reference, method, request.headers()).await?;
            ("manifest", got)
        }
        (Endpoint::Blob(digest), &(Method::GET | Method::HEAD)) => {
            ("blob", blobs::get_through(registry, remote, &digest, method, request.headers()).await?)
        }
        (Endpoint::Referrers(digest), &(Method::GET | Method::HEAD)) => {
            ("referrers", referrers::list_through(registry, remote, &digest, request.uri()).await?)
        }
        (Endpoint::Tags, &(Method::GET | Method::HEAD)) => {
            ("tags", tags::list_through(registry, remote, request.uri()).await?)
        }
        (endpoint, method) => return at(registry, method, permit, endpoint, request).await,
    };
    response.headers_mut().insert(CACHE, HeaderValue::from_static(freshness.word()));
    registry.metrics.pulled(remote.upstream_name(), kind, freshness);
    Ok(response)
}

async fn at(
    registry: &Registry,
    method: &Method,
    permit: &Permit<'_>,
    endpoint: Endpoint,
    request: Request,
) -> Result<Response, Error> {
    let name = permit.repository();
    match endpoint {
        Endpoint::Manifest(reference) => match *method {
            Method::GET | Method::HEAD => {
                manifests::get(registry, name, &reference, method, request.headers()).await
            }
            Method::PUT => manifests::put(registry, name, &reference, request).await,
            Method::DELETE => manifests::delete(registry, name, &reference, request.headers()).await,
            _ => Err(Error::Method("GET, HEAD, PUT, DELETE")),
        },
        Endpoint::Blob(digest) => match *method {
            Method::GET | Method::HEAD => {
                blobs::get(registry, name, &digest, method, request.headers()).await
            }
            Method::DELETE => blobs::delete(registry, name, &digest, request.headers()).await,
            _ => Err(Error::Method("GET, HEAD, DELETE")),
        },
        Endpoint::Uploads => match *method {
            Method::POST => uploads::start(registry, permit, request).await,
            _ => Err(Error::Method("POST")),
        },
        Endpoint::Upload(id) => match *method {
            Method::GET => uploads::status(registry, name, &id).await,
            Method::PATCH => uploads::append(registry, name, &id, request).await,
            Method::PUT => uploads::finish(registry, name, &id, request).await,
            Method::DELETE => uploads::cancel(registry, name, &id).await,
            _ => Err(Error::Method("GET, PATCH, PUT, DELETE")),
        },
        Endpoint::Tags => match *method {
            Method::GET | Method::HEAD => tags::list(registry, name, request.uri()).await,
            _ => Err(Error::Method("GET, HEAD")),
        },
        Endpoint::Referrers(digest) => match *method {
            Method::GET | Method::HEAD => referrers::list(registry, name, &digest, request.uri()).await,
            _ => Err(Error::Method("GET, HEAD")),
        },
    }
}
