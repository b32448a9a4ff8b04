//! Accepts connections: each client is limited in time, and all of them in number.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hab_store::{Catalog, Pulls, Store};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{interval, sleep, timeout};

use crate::connection::Shared;
use crate::observe::{Metrics, Storage};
use crate::slots::{Admission, Slots, Ticket};
use crate::{Front, Guard, Registry, ServiceLimits, Tls, beside, connection, router};
use hab_chain::chain;
use hab_clock::now;

/// How often files are checked for a change.
const LOOK: Duration = Duration::from_secs(2);

/// How soon to look again for a slot when all are taken.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often to count how much is stored.
const MEASURE: Duration = Duration::from_secs(5 * 60);

/// Serves the registry, and `more` beside it, until `shutdown` is ready. Then no connection is accepted any more, and
/// open requests have [`ServiceLimits::drain`] to end.
///
/// Speaks HTTP/1.1 and HTTP/2, over TLS if the registry has that. Fails only if the listener does.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    more: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let limits = registry.limits.clone();
    let janitors = async {
        tokio::join!(
            expire_uploads(registry.store.clone(), limits.upload),
            record_pulls(registry.pulls.clone(), registry.store.catalog.clone()),
            measure(registry.store.clone(), registry.observer.metrics.clone()),
            refresh(registry.gate.guard.clone(), registry.tls.clone())
        )
    };
    let beside = beside::counted(more, registry.observer.clone(), registry.gate.clone());
    let router = router(registry.clone()).merge(beside);
    let of = (registry.tls.clone(), registry.front.clone());
    let serving = accept(listener, router, limits.clone(), of, shutdown);
    let served = tokio::select! {
        result = serving => result,
        _ = janitors => Ok(()),
    };
    record(&registry.pulls, &registry.store.catalog).await;
    served
}

async fn accept(
    listener: TcpListener,
    router: Router,
    limits: ServiceLimits,
    (tls, front): (Option<Arc<Tls>>, Arc<Front>),
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    // The caller that set the limits reports if they are lowered here.
    let (limits, _) = limits.within_open_files();
    let slots = Slots::new(limits.clone());
    let shared = Arc::new(Shared::new(router, tls, limits, front));
    let graceful = GracefulShutdown::new();
    let mut open = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut sweep = pin!(slots.sweep());
    {
        let next = || admitted(&listener, &slots, shared.tls.is_some());
        // Kept when another event comes first: it may hold a client that waits for a slot.
        let mut accepting = pin!(next());
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                () = &mut sweep => continue,
                Some(_) = open.join_next() => continue,
                accepted = &mut accepting => accepted,
            };
            accepting.set(next());
            let (stream, from, ticket) = match accepted {
                Ok(accepted) => accepted,
                // The client left before it was accepted, or no file descriptor is free: neither lasts.
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a connection was not accepted");
                    if !slots.make_room() {
                        sleep(Duration::from_millis(50)).await;
                    }
                    continue;
                }
            };
            let (shared, watcher) = (shared.clone(), graceful.watcher());
            open.spawn(async move {
                connection::run(stream, from, &shared, ticket.slot.clone(), watcher).await;
                drop(ticket);
            });
        }
    }
    drop(listener);
    shared.close();
    // Clients that do not take their answers are ended meanwhile, too.
    let ended = async {
        tokio::select! { () = graceful.shutdown() => {}, () = &mut sweep => {} }
    };
    if timeout(shared.limits.drain, ended).await.is_err() {
        tracing::warn!(open = open.len(), "open requests did not end in time and are cut off");
    }
    open.shutdown().await;
    Ok(())
}

/// Accepts the next connection, and waits for a slot for it.
async fn admitted(
    listener: &TcpListener,
    slots: &Arc<Slots>,
    tls: bool,
) -> io::Result<(TcpStream, SocketAddr, Ticket)> {
    loop {
        let (stream, from) = listener.accept().await?;
        loop {
            match slots.admit(from.ip()) {
                Admission::Room(ticket) => return Ok((stream, from, ticket)),
                Admission::TooMany => {
                    tracing::debug!(address = %from.ip(), "a client has too many connections");
                    connection::refuse(&stream, tls);
                    break;
                }
                // An open connection may also come to wait meanwhile, and nothing reports that.
                Admission::Full => drop(timeout(LOOK_AGAIN, slots.freed()).await),
            }
        }
    }
}

/// Cancels unfinished uploads that are too old. Never returns.
async fn expire_uploads(store: Store, after: Duration) {
    let age = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
    let mut hourly = interval(Duration::from_secs(60 * 60));
    loop {
        hourly.tick().await;
        match store.expire_uploads(now().saturating_sub(age)).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "unfinished uploads were given up"),
            Err(error) => tracing::error!(error = chain(&error), "unfinished uploads could not be given up"),
        }
    }
}

/// Records pulls in the catalog. Never returns.
async fn record_pulls(pulls: Pulls, catalog: Catalog) {
    let mut often = interval(Duration::from_secs(60));
    loop {
        often.tick().await;
        record(&pulls, &catalog).await;
    }
}

/// Counts how much is stored. Never returns.
async fn measure(store: Store, metrics: Metrics) {
    let mut often = interval(MEASURE);
    loop {
        often.tick().await;
        match Storage::of(&store).await {
            Ok(storage) => metrics.stored(storage),
            Err(error) => tracing::error!(error = chain(&error), "stored content could not be counted"),
        }
    }
}

async fn record(pulls: &Pulls, catalog: &Catalog) {
    if let Err(error) = pulls.record(catalog).await {
        tracing::error!(error = chain(&error), "pulls could not be recorded");
    }
}

/// Reads files again when they change, and on SIGHUP. Never returns.
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
            tracing::error!("files could not be checked for changes");
        }
    }
}
