//! From a request to the one function that answers it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hab_oci::RepositoryName;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::route::{Endpoint, Route};
use crate::upstream::Remote;
use crate::{Registry, blobs, manifests, referrers, tags, uploads};

/// The routes below `/v2`, to be served alone ([`serve`](crate::serve())) or merged with others.
pub fn router(registry: Registry) -> Router {
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*path}", any(handle))
        .with_state(Arc::new(registry))
}

async fn handle(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut response = dispatch(&registry, request).await.unwrap_or_else(IntoResponse::into_response);
    tracing::debug!(%method, path = uri.path(), status = response.status().as_u16(), "answered");
    let version = HeaderName::from_static("docker-distribution-api-version");
    response.headers_mut().insert(version, HeaderValue::from_static("registry/2.0"));
    response
}

async fn dispatch(registry: &Registry, request: Request) -> Result<Response, Error> {
    let method = request.method().clone();
    registry.permit(&method)?;
    match Route::of_path(request.uri().path())? {
        Route::Base => match method {
            Method::GET | Method::HEAD => {
                Ok(([(header::CONTENT_TYPE, "application/json")], "{}").into_response())
            }
            _ => Err(Error::Method("GET, HEAD")),
        },
        Route::Repository(name, endpoint) => {
            let Origin { ns } = query(request.uri())?;
            match registry.upstreams.find(&name, ns.as_deref())? {
                Some(remote) => through(registry, &method, &remote, endpoint, request).await,
                None => at(registry, &method, &name, endpoint, request).await,
            }
        }
    }
}

/// The registry that a mirror's client means: containerd's `ns`.
#[derive(Deserialize)]
struct Origin {
    ns: Option<String>,
}

/// A repository of an upstream: it is pulled, and nothing else. What is listed is what is here.
async fn through(
    registry: &Registry,
    method: &Method,
    remote: &Remote,
    endpoint: Endpoint,
    request: Request,
) -> Result<Response, Error> {
    match (endpoint, method) {
        (_, method) if !method.is_safe() => Err(Error::ReadOnly),
        (Endpoint::Manifest(reference), &(Method::GET | Method::HEAD)) => {
            manifests::get_through(registry, remote, &reference, method).await
        }
        (Endpoint::Blob(digest), &(Method::GET | Method::HEAD)) => {
            blobs::get_through(registry, remote, &digest, method, request.headers()).await
        }
        (endpoint, method) => at(registry, method, &remote.local, endpoint, request).await,
    }
}

async fn at(
    registry: &Registry,
    method: &Method,
    name: &RepositoryName,
    endpoint: Endpoint,
    request: Request,
) -> Result<Response, Error> {
    match endpoint {
        Endpoint::Manifest(reference) => match *method {
            Method::GET | Method::HEAD => manifests::get(registry, name, &reference, method).await,
            Method::PUT => manifests::put(registry, name, &reference, request).await,
            Method::DELETE => manifests::delete(registry, name, &reference).await,
            _ => Err(Error::Method("GET, HEAD, PUT, DELETE")),
        },
        Endpoint::Blob(digest) => match *method {
            Method::GET | Method::HEAD => {
                blobs::get(registry, name, &digest, method, request.headers()).await
            }
            Method::DELETE => blobs::delete(registry, name, &digest).await,
            _ => Err(Error::Method("GET, HEAD, DELETE")),
        },
        Endpoint::Uploads => match *method {
            Method::POST => uploads::start(registry, name, request).await,
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

/// The query of a request, percent-decoded.
pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Error> {
    Query::try_from_uri(uri).map(|Query(query)| query).map_err(|_| Error::Query)
}

/// A response without a body.
pub(crate) fn empty<const N: usize>(status: StatusCode, headers: [(HeaderName, String); N]) -> Response {
    (status, headers, ()).into_response()
}

/// `Docker-Content-Digest`.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Where an answer that was pulled through came from: `hit`, `miss` or `stale`.
pub(crate) const CACHE: HeaderName = HeaderName::from_static("x-hab-cache");
