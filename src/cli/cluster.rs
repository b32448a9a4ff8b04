//! `hab-build cluster`: the settings that make hosts pull from this registry alone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::PossibleValue;
use hab_cluster::{Change, Kind, Plan, Registry, place};
use serde_json::json;

use super::{AlreadyPrinted, Global, print_json, terminal, usage};
use hab_farm::FarmError;

/// The program that pulls images on a host, as a word of the command line.
#[derive(Clone, Copy, Debug)]
struct Runtime(hab_cluster::Runtime);

impl clap::ValueEnum for Runtime {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Runtime; 6] = {
            let all = hab_cluster::Runtime::ALL;
            [
                Runtime(all[0]),
                Runtime(all[1]),
                Runtime(all[2]),
                Runtime(all[3]),
                Runtime(all[4]),
                Runtime(all[5]),
            ]
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        use hab_cluster::Runtime as Known;
        let help = match self.0 {
            Known::K3s | Known::Rke2 => "registries.yaml and config.yaml.d",
            Known::Containerd => "hosts.toml below certs.d",
            Known::Crio => "a drop-in of registries.conf, and policy.json",
            Known::Podman => "registries.conf and policy.json",
            Known::Docker => "daemon.json",
        };
        Some(PossibleValue::new(self.0.name()).help(help))
    }
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print, write, check or take back the files that make a host pull from this registry and from nowhere else
    Config(Box<Config>),
}

#[derive(Debug, clap::Args)]
struct Config {
    /// The program that pulls images on the host
    runtime: Runtime,
    /// This registry's address, as the host reaches it: http://farm:5000
    #[arg(long, value_name = "URL", required_unless_present = "restore")]
    registry: Option<String>,
    /// The certificate, in PEM, of the authority for this registry, if hosts do not know it already
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Write the files below this folder, / for the host itself, merged with those there; earlier versions stay beside
    /// them
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    write: Option<PathBuf>,
    /// Only show what --write would change, and what would follow
    #[arg(long, requires = "write")]
    dry_run: bool,
    /// Write even if the host uses registries that have no upstream here, or if there is no upstream at all
    #[arg(long, requires = "write")]
    yes: bool,
    /// Put back the files below this folder as they were before the first --write
    #[arg(long, value_name = "DIR", conflicts_with_all = ["write", "check", "registry", "ca"])]
    restore: Option<PathBuf>,
    /// Check whether a host whose files are below --root would still pull from somewhere else
    #[arg(long)]
    check: bool,
    /// The folder with the host's files
    #[arg(long, value_name = "DIR", default_value = "/", requires = "check")]
    root: PathBuf,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let What::Config(config) = &args.what;
    if let Some(root) = &config.restore {
        return restore(global, config.runtime.0, root);
    }
    let registry = registry(global, config).map_err(usage)?;
    match &config.write {
        _ if config.check => check(global, config, &registry),
        Some(root) => write(global, config, &registry, root),
        None => print(global, config, &registry),
    }
}

fn registry(global: &Global, config: &Config) -> anyhow::Result<Registry> {
    let url = config.registry.clone().unwrap_or_default();
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let host = host.map(|host| host.trim_end_matches('/'));
    anyhow::ensure!(
        host.is_some_and(|host| !host.is_empty() && host.chars().all(plain)),
        "{url:?} is not an address such as http://farm:5000"
    );
    let authority = config.ca.as_deref().map(certificate).transpose()?;
    anyhow::ensure!(
        authority.is_none() || !url.starts_with("http://"),
        "--ca is for an https address, and {url} is none"
    );
    let upstreams = global.configuration()?.registry.upstream.into_keys().collect();
    Ok(Registry { url, upstreams, authority })
}

fn certificate(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the certificate {}", path.display()))?;
    anyhow::ensure!(
        text.contains("-----BEGIN CERTIFICATE-----"),
        "{} is no certificate in PEM",
        path.display()
    );
    Ok(text)
}

fn print(global: &Global, config: &Config, registry: &Registry) -> anyhow::Result<()> {
    let files = hab_cluster::files(config.runtime.0, registry);
    for note in &files.notes {
        terminal::say(note);
    }
    if registry.upstreams.is_empty() {
        terminal::say(NO_UPSTREAM);
    }
    if global.json {
        return print_json(&files);
    }
    for (path, text) in &files.files {
        terminal::print(&format!("# /{path}\n{text}"));
    }
    Ok(())
}

/// The warning about a farm without upstreams.
const NO_UPSTREAM: &str = "warning: hab.toml has no [registry.upstream]: these files leave a host only the images that were built \
                           here or pushed here, and close every other registry";

fn check(global: &Global, config: &Config, registry: &Registry) -> anyhow::Result<()> {
    let found = hab_cluster::check(config.runtime.0, registry, &config.root);
    for one in &found {
        let open = if one.kind == Kind::Unknown { "cannot tell: " } else { "" };
        terminal::say(&format!("{open}{} {}", one.path, one.words));
    }
    if global.json {
        print_json(&found)?;
    }
    let ways = found.iter().filter(|one| one.kind == Kind::Way).count();
    let open = found.len() - ways;
    let refusal = match (ways, open) {
        (0, 0) => {
            terminal::say(
                "no file of this host leads past this registry; proxies and images that are there already are not \
                 looked at",
            );
            return Ok(());
        }
        (0, open) => {
            let files = if open == 1 { "1 file".to_owned() } else { format!("{open} files") };
            format!("cannot tell whether the host pulls from {} alone: look at {files}", registry.url)
        }
        (1, _) => format!("1 way leads past {}", registry.url),
        (ways, _) => format!("{ways} ways lead past {}", registry.url),
    };
    Err(AlreadyPrinted(FarmError::Decided { refusal }).into())
}

/// Shows the changes and what would follow, and only then writes them.
fn write(global: &Global, config: &Config, registry: &Registry, root: &Path) -> anyhow::Result<()> {
    let plan = Plan::new(config.runtime.0, registry, root)?;
    for note in &plan.notes {
        terminal::say(note);
    }
    let refusal = loses(&plan, registry);
    if !global.json && (config.dry_run || refusal.is_some()) {
        terminal::print(plan.diff().trim_end());
    }
    for one in &plan.left {
        terminal::say(&format!("even after that: {} {}", one.path, one.words));
    }
    let mut placed = Vec::new();
    let refused = refusal.filter(|_| !config.yes);
    if refused.is_none() && !config.dry_run {
        placed = place::apply(root, &plan.changes)?;
        for one in &placed {
            let kept = one.earlier.as_ref().map(|kept| format!("; the earlier file is {}", kept.display()));
            let done = if one.gone { "is gone" } else { "is written" };
            terminal::say(&format!("{} {done}{}", one.path.display(), kept.unwrap_or_default()));
        }
        if placed.is_empty() {
            terminal::say("nothing has to change");
        }
    }
    if global.json {
        let change =
            |c: &Change| json!({ "path": c.path, "new": c.before.is_none(), "gone": c.after.is_none() });
        let changes: Vec<_> = plan.changes.iter().map(change).collect();
        print_json(&json!({
            "changes": changes, "notes": plan.notes, "lost": plan.lost, "left": plan.left, "written": placed,
            "diff": plan.diff(),
        }))?;
    }
    match refused {
        Some(refusal) if !config.dry_run => {
            terminal::hint("set the upstreams first, or write nevertheless with --yes");
            let refusal = FarmError::Decided { refusal };
            Err(if global.json { AlreadyPrinted(refusal).into() } else { refusal.into() })
        }
        _ => Ok(()),
    }
}

/// Says which images could not be pulled any more, and offers upstreams. Returns a sentence if that is a reason not to
/// write.
fn loses(plan: &Plan, registry: &Registry) -> Option<String> {
    if registry.upstreams.is_empty() {
        terminal::say(NO_UPSTREAM);
    }
    for used in &plan.lost {
        terminal::say(&format!(
            "warning: images of {} could not be pulled any more ({})",
            used.registry, used.seen
        ));
    }
    let names: Vec<_> = plan.lost.iter().map(|used| used.registry.as_str()).collect();
    if !names.is_empty() {
        terminal::say("with these sections in hab.toml they could be pulled through this farm:");
        for line in hab_cluster::upstream_tables(names.iter().copied()).lines() {
            terminal::say(&format!("    {line}"));
        }
    }
    match (names.as_slice(), registry.upstreams.is_empty()) {
        ([], false) => None,
        ([], true) => {
            Some("nothing is written: no upstream is set, so every other registry would be closed".to_owned())
        }
        (names, _) => Some(format!(
            "nothing is written: the host uses {}, for which hab.toml has no upstream",
            names.join(", ")
        )),
    }
}

fn restore(global: &Global, runtime: hab_cluster::Runtime, root: &Path) -> anyhow::Result<()> {
    let place::Restoration { files, strange, unread } = place::restore(runtime, root)?;
    for one in &unread {
        let follows = "files that were written where it leads are not looked for";
        terminal::say(&format!("cannot tell: {} {}; {follows}", one.path, one.words));
    }
    for path in &strange {
        let why = "it is left as it is, because --write gives no version such a number";
        terminal::say(&format!("{}: {why}", path.display()));
    }
    for one in &files {
        let what = if one.there { "is what it was before" } else { "is removed: it was not there before" };
        terminal::say(&format!("{} {what}", one.path.display()));
    }
    if files.is_empty() {
        terminal::say("nothing to restore: no file has an earlier version beside it");
    }
    if global.json { print_json(&files) } else { Ok(()) }
}
