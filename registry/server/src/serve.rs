//! Listening: every client is bounded in time, and all of them in number.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::error::chain;
use crate::registry::now;
use crate::stall::StallGuard;
use crate::{Limits, Registry, router};

/// Serves the registry, and `more` beside it, until `shutdown` is ready; then nothing is accepted any more, and open requests have [`Limits::drain`] to
/// end.
///
/// HTTP/1.1 without TLS. Fails only if the listener does.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    more: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let limits = registry.limits.clone();
    let janitors = async { tokio::join!(expire_uploads(registry.clone()), record_pulls(registry.clone())) };
    let serving = accept(listener, router(registry.clone()).merge(more), limits, shutdown);
    let served = tokio::select! {
        result = serving => result,
        _ = janitors => Ok(()),
    };
    record(&registry).await;
    served
}

async fn accept(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let service = TowerToHyperService::new(router);
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?.0, slot))
        };
        let (stream, slot) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = open.join_next() => continue,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                // A client that left before it was accepted, or no file descriptor left: neither is for good.
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a connection was not accepted");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let connection = graceful.watch(connection(stream, service.clone(), &limits));
        open.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = chain(&error), "a connection broke");
            }
            drop(slot);
        });
    }
    drop(listener);
    if timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(open = open.len(), "open requests did not end in time and are cut off");
    }
    open.shutdown().await;
    Ok(())
}

fn connection(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    limits: &Limits,
) -> http1::Connection<TokioIo<StallGuard>, TowerToHyperService<Router>> {
    // Small answers must not wait for an acknowledgement; that this cannot be set harms nothing else.
    let _ = stream.set_nodelay(true);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(StallGuard::new(stream, limits.idle)), service)
}

/// Never ends.
async fn expire_uploads(registry: Registry) {
    let age = i64::try_from(registry.limits.upload.as_secs()).unwrap_or(i64::MAX);
    let mut hourly = interval(Duration::from_secs(60 * 60));
    loop {
        hourly.tick().await;
        match registry.store.expire_uploads(now().saturating_sub(age)).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "unfinished uploads were given up"),
            Err(error) => tracing::error!(error = chain(&error), "unfinished uploads could not be given up"),
        }
    }
}

/// Never ends.
async fn record_pulls(registry: Registry) {
    let mut often = interval(Duration::from_secs(60));
    loop {
        often.tick().await;
        record(&registry).await;
    }
}

async fn record(registry: &Registry) {
    if let Err(error) = registry.pulls.record(&registry.store.catalog).await {
        tracing::error!(error = chain(&error), "pulls could not be recorded");
    }
}
