//! Listening: every client is bounded in time, and all of them in number.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{interval, sleep, timeout};

use crate::error::chain;
use crate::observe::Storage;
use crate::registry::now;
use crate::{Guard, Limits, Registry, Tls, connection, router};

/// How often files are looked at for a change.
const LOOK: Duration = Duration::from_secs(2);

/// How often is counted how much there is.
const MEASURE: Duration = Duration::from_secs(5 * 60);

/// Serves the registry, and `more` beside it, until `shutdown` is ready; then nothing is accepted any more, and open requests have [`Limits::drain`] to
/// end.
///
/// HTTP/1.1, over TLS if the registry has that. Fails only if the listener does.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    more: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let limits = registry.limits.clone();
    let janitors = async {
        tokio::join!(
            expire_uploads(registry.clone()),
            record_pulls(registry.clone()),
            measure(registry.clone()),
            refresh(registry.guard.clone(), registry.tls.clone())
        )
    };
    let router = router(registry.clone()).merge(more);
    let serving = accept(listener, router, limits, registry.tls.clone(), shutdown);
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
    tls: Option<Arc<Tls>>,
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
            Ok::<_, io::Error>((listener.accept().await?, slot))
        };
        let ((stream, from), slot) = tokio::select! {
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
        let (service, watcher) = (service.clone(), graceful.watcher());
        let (tls, limits) = (tls.clone(), Limits::clone(&limits));
        open.spawn(async move {
            connection::run(stream, from.ip(), service, tls, &limits, watcher).await;
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

/// Never ends.
async fn measure(registry: Registry) {
    let mut often = interval(MEASURE);
    loop {
        often.tick().await;
        match Storage::of(&registry.store).await {
            Ok(storage) => registry.metrics.stored(storage),
            Err(error) => tracing::error!(error = chain(&error), "what is kept could not be counted"),
        }
    }
}

async fn record(registry: &Registry) {
    if let Err(error) = registry.pulls.record(&registry.store.catalog).await {
        tracing::error!(error = chain(&error), "pulls could not be recorded");
    }
}

/// Reads files again when they change, and when the process is told to (SIGHUP). Never ends.
async fn refresh(guard: Option<Arc<Guard>>, tls: Option<Arc<Tls>>) {
    if guard.is_none() && tls.is_none() {
        return std::future::pending().await;
    }
    let mut often = interval(LOOK);
    let mut hangup = signal(SignalKind::hangup()).ok();
    loop {
        let told = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let always = tokio::select! {
            _ = often.tick() => false,
            _ = told => true,
        };
        let (guard, tls) = (guard.clone(), tls.clone());
        let read = spawn_blocking(move || {
            guard.inspect(|guard| guard.refresh(always));
            tls.inspect(|tls| tls.refresh(always));
        });
        if read.await.is_err() {
            tracing::error!("files could not be looked at");
        }
    }
}
