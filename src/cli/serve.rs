//! `hab-build serve`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Global, terminal, usage};
use hab_config::RegistryConfig;
use hab_farm::{Farm, Notes, Progress as _, service};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The address to listen on: `127.0.0.1:5000`, `[::1]:5000`, `localhost:5000`, or `:5000` for all addresses of this
    /// machine
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000", value_parser = address)]
    listen: SocketAddr,
    /// Accept pushes; at an address other than loopback this needs TLS and accounts
    #[arg(long)]
    writable: bool,
    /// Accept images whose layers are not here (indexes may always name images that are not)
    #[arg(long, requires = "writable")]
    sparse: bool,
    /// Only serve; do not sync mirrored projects and images of other registries on schedule
    #[arg(long)]
    no_sync: bool,
}

/// Reads an address to listen on, as people write it.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let bad = || format!("{text:?} is not HOST:PORT, such as 127.0.0.1:5000, localhost:5000 or :5000");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    match host {
        // This includes IPv4, unless the system is configured otherwise.
        "" | "*" => Ok((Ipv6Addr::UNSPECIFIED, port).into()),
        // Whatever a resolver says about it (RFC 6761, section 6.3).
        "localhost" => Ok((Ipv4Addr::LOCALHOST, port).into()),
        host => {
            let found = (host, port).to_socket_addrs().map_err(|e| format!("cannot find {host}: {e}"))?;
            let mut found: Vec<SocketAddr> = found.collect();
            found.sort_by_key(SocketAddr::is_ipv6);
            found.into_iter().next().ok_or_else(|| format!("{host} has no address"))
        }
    }
}

/// Listens at an address. If the machine has no IPv6, "all addresses" are those of IPv4.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    // Before anything else, because without a handler these signals end the program.
    let told: Arc<AtomicBool> = Arc::default();
    for signal in [SIGHUP, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, told.clone())?;
    }
    let config = global.configuration()?.registry;
    reachable(args, &config).map_err(usage)?;
    let log = Arc::new(Notes::new(terminal::say));
    let session = global.farm_telling(log.clone())?;
    let farm = Arc::new(Farm::clone(&session));
    for sentence in farm.images().idle_rules()? {
        terminal::say(&format!("warning: {sentence}"));
    }
    let access = if args.writable { hab_registry::Access::ReadWrite } else { hab_registry::Access::ReadOnly };
    let mut rules = hab_registry::Rules::default();
    if args.sparse {
        rules.gaps = hab_store::Gaps::All;
    }
    let registry = hab_registry::Registry::new(farm.store().clone(), access).with_rules(rules);
    let (limits, few_files) = config.limits().map_err(usage)?.within_open_files();
    if let Some(few) = few_files {
        terminal::say(&format!(
            "warning: {few}; raise the limit (LimitNOFILE= in the unit, ulimit -n) or allow fewer"
        ));
    }
    let registry = registry.with_limits(limits);
    let registry = registry.with_front(config.front().map_err(usage)?);
    // Also when offline, because an image that must not be served must not be served then either.
    let upstreams = farm.upstreams()?;
    let registry = registry.with_upstreams(upstreams.clone());
    let (guard, tls) = (config.guard(farm.data()), config.tls());
    let (guard, tls) = (guard.map_err(usage)?, tls.map_err(usage)?);
    let reread = if guard.is_some() || tls.is_some() {
        "SIGHUP: accounts and certificates are read again; a change of hab.toml needs a restart"
    } else {
        "SIGHUP: there are no accounts and no certificates to read again; a change of hab.toml needs a restart"
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let registry = guard.into_iter().fold(registry, hab_registry::Registry::with_guard);
    let registry = tls.into_iter().fold(registry, hab_registry::Registry::with_tls);
    let registry = match config.rate() {
        Some(rate) => registry.with_rate(rate).map_err(usage)?,
        None => registry,
    };
    let metrics = hab_registry::Metrics::new();
    let registry = registry.with_metrics(metrics.clone());
    let registry = match &config.access_log {
        Some(path) => registry.with_access_log(access_log(path).map_err(usage)?),
        None => registry,
    };
    let served = farm.served();
    let mirror = crate::front::router(served.clone()).merge(hab_mirror_server::router(served));
    let sync = !args.no_sync && !global.offline;
    let following = sync.then(|| service::follow(Arc::clone(&farm)));
    let images = sync.then(|| farm.image_syncs().follow(&upstreams));
    let figures = service::watch(Arc::clone(&farm), &metrics);
    let tending = farm.images().tend(&upstreams, &metrics);
    let served: anyhow::Result<()> = session.runtime().block_on(async {
        let listener =
            bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
        let address = listener.local_addr()?;
        terminal::say(&format!("serving {scheme}://{address}/; its front page says what is here and how it is used"));
        if scheme == "http" {
            terminal::say(
                "it is plain http: podman and skopeo need --tls-verify=false, and hosts a file that `hab-build cluster config` writes",
            );
        }
        if global.json {
            super::print_json(
                &serde_json::json!({ "listen": address, "url": format!("{scheme}://{address}") }),
            )?;
        }
        for (kind, words) in [
            (SignalKind::hangup(), reread),
            (SignalKind::user_defined1(), "SIGUSR1 means nothing here; it is ignored"),
            (SignalKind::user_defined2(), "SIGUSR2 means nothing here; it is ignored"),
        ] {
            let mut signals = signal(kind)?;
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    terminal::say(words);
                }
            });
        }
        tokio::spawn(async move {
            for sentence in upstreams.greet().await {
                terminal::say(&format!("warning: {sentence}"));
            }
        });
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
    if let Some(images) = images {
        images.abort();
    }
    log.cancel().store(true, Ordering::Relaxed);
    for thread in following.into_iter().chain([figures]) {
        // The thread has already reported everything.
        let _ = thread.join();
    }
    served
}

fn access_log(path: &Path) -> anyhow::Result<hab_registry::AccessLog> {
    hab_registry::AccessLog::open(path)
        .with_context(|| format!("the access log {} cannot be written", path.display()))
}

/// Refuses settings that let unknown clients write, or that send passwords where others can read them.
fn reachable(args: &Args, config: &RegistryConfig) -> anyhow::Result<()> {
    if args.listen.ip().is_loopback() {
        return Ok(());
    }
    let (listen, accounts) = (args.listen, config.has_accounts());
    let mut rules = config.access.iter().flat_map(|access| &access.rule);
    let open = rules.any(hab_registry::AccessRule::lets_everybody_write);
    match (config.tls.is_some(), accounts, args.writable) {
        (true, true, true) if open => anyhow::bail!(
            "--writable on {listen} with an access rule that lets \"anonymous\" push or delete would let anyone write: give that \
             to accounts, or listen on a loopback address such as 127.0.0.1"
        ),
        (_, false, true) => anyhow::bail!(
            "--writable on {listen} would let anyone push: name accounts in [registry.access] and a certificate in \
             [registry.tls] of hab.toml, listen on a loopback address such as 127.0.0.1, or serve read-only"
        ),
        (false, true, _) => anyhow::bail!(
            "accounts on {listen} without TLS would send their passwords for anyone to read: name a certificate in \
             [registry.tls] of hab.toml, or listen on a loopback address such as 127.0.0.1"
        ),
        (_, false, false) | (true, true, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(listen: &str, writable: bool, tables: &str) -> Result<(), String> {
        let config: hab_config::Config = toml::from_str(tables).unwrap();
        let args = Args { listen: listen.parse().unwrap(), writable, sparse: false, no_sync: false };
        reachable(&args, &config.registry).map_err(|e| e.to_string())
    }

    #[test]
    fn an_address_is_understood_as_people_write_it() {
        for (text, meant) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("localhost:5000", "127.0.0.1:5000"),
            (":5000", "[::]:5000"),
            ("*:5000", "[::]:5000"),
            ("[::1]:0", "[::1]:0"),
        ] {
            assert_eq!(address(text).map(|address| address.to_string()), Ok(meant.to_owned()), "{text}");
        }
        for bad in ["5000", "localhost", "localhost:", ":70000", "a b:1", ""] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn beyond_loopback_writing_takes_tls_and_accounts_and_accounts_take_tls() {
        let (tls, access) = ("[registry.tls]\ncertificate = \"c\"\nkey = \"k\"\n", "[registry.access]\n");
        let both = format!("{tls}{access}");
        let open = format!(
            "{both}[[registry.access.rule]]\nwho = [\"anonymous\"]\nrepositories = [\"a\"]\nactions = [\"push\"]\n"
        );
        let known = format!("{tls}client-ca = \"a\"\n");
        for listen in ["0.0.0.0:5000", "[::]:5000", "192.0.2.1:5000"] {
            for (writable, tables, good) in [
                (false, "", true),
                (false, tls, true),
                (false, access, false),
                (false, both.as_str(), true),
                (true, "", false),
                (true, tls, false),
                (true, access, false),
                (true, both.as_str(), true),
                (true, known.as_str(), true),
                (true, open.as_str(), false),
                (false, open.as_str(), true),
            ] {
                assert_eq!(said(listen, writable, tables).is_ok(), good, "{listen} {writable} {tables}");
                assert_eq!(said("127.0.0.1:5000", writable, tables), Ok(()));
                assert_eq!(said("[::1]:5000", writable, tables), Ok(()));
            }
        }
        let error = said("0.0.0.0:5000", false, access).unwrap_err();
        assert!(error.contains("0.0.0.0:5000") && error.contains("[registry.tls]"), "{error}");
    }
}
