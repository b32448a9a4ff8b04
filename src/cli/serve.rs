//! `hab-build serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Global, terminal, usage};
use crate::farm::{self, Notes, Progress as _};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The address to listen on
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Accept pushes; only on a loopback address, because there is no access control yet
    #[arg(long)]
    writable: bool,
    /// Accept images that name layers which are not here (indexes may always name images that are not)
    #[arg(long, requires = "writable")]
    sparse: bool,
    /// Serve only; do not bring mirrored projects up to date on schedule
    #[arg(long)]
    no_sync: bool,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    if args.writable && !args.listen.ip().is_loopback() {
        return Err(usage(&anyhow::anyhow!(
            "--writable beyond loopback would let anyone push; listen on 127.0.0.1, or serve read-only"
        )));
    }
    let log = Arc::new(Notes::new(terminal::say));
    let farm = Arc::new(global.open(log.clone())?);
    let access = if args.writable { hab_registry::Access::ReadWrite } else { hab_registry::Access::ReadOnly };
    let mut rules = hab_registry::Rules::default();
    if args.sparse {
        rules.gaps = hab_store::Gaps::All;
    }
    let registry = hab_registry::Registry::new(farm.store().clone(), access).with_rules(rules);
    let upstreams = farm.config().registry.upstreams().map_err(|e| usage(&e))?;
    let registry = if global.offline { registry } else { registry.with_upstreams(upstreams) };
    let mirror = hab_mirror_server::router(farm.served());
    let following = (!args.no_sync && !global.offline).then(|| farm::follow(Arc::clone(&farm)));
    let tending = farm.tend();
    let served: anyhow::Result<()> = farm.runtime().block_on(async {
        let listener = TcpListener::bind(args.listen)
            .await
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        let address = listener.local_addr()?;
        terminal::say(&format!("serving http://{address}/v2/"));
        if global.json {
            super::print_json(&serde_json::json!({ "listen": address }))?;
        }
        let mut term = signal(SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
        };
        hab_registry::serve(listener, registry, mirror, stop).await?;
        Ok(())
    });
    tending.abort();
    log.cancel().store(true, Ordering::Relaxed);
    if let Some(thread) = following {
        // It has nothing to say that it has not said.
        let _ = thread.join();
    }
    served
}
