//! `hab-build cluster`: what hosts must be told so that they pull from here alone.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use super::{Global, print_json, terminal, usage};
use crate::cluster::{self, Registry, Runtime};
use crate::farm::FarmError;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print, write or check the files that make a host pull from this registry and from nowhere else
    Config {
        /// What pulls images on the host
        runtime: Runtime,
        /// This registry's address, as the host reaches it: http://farm:5000
        #[arg(long, value_name = "URL")]
        registry: String,
        /// The certificate, in PEM, of who vouches for this registry's, where hosts do not know them already
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// Write the files below this folder, / for the host itself, instead of printing them
        #[arg(long, value_name = "DIR", conflicts_with = "check")]
        write: Option<PathBuf>,
        /// Say whether a host whose files are below --root still would pull from somewhere else
        #[arg(long)]
        check: bool,
        /// Where the host's files are
        #[arg(long, value_name = "DIR", default_value = "/", requires = "check")]
        root: PathBuf,
    },
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let What::Config { runtime, registry, ca, write, check, root } = &args.what;
    let host = registry.strip_prefix("http://").or_else(|| registry.strip_prefix("https://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if !host.is_some_and(|host| {
        !host.trim_end_matches('/').is_empty() && host.trim_end_matches('/').chars().all(plain)
    }) {
        return Err(usage(&anyhow::anyhow!("{registry:?} is not an address such as http://farm:5000")));
    }
    let upstreams = global.configuration()?.registry.upstream.into_keys().collect();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).with_context(|| format!("{} does not read", path.display()))?;
        anyhow::ensure!(
            text.contains("-----BEGIN CERTIFICATE-----"),
            "{} is no certificate in PEM",
            path.display()
        );
        Ok(text)
    };
    let authority = ca.as_ref().map(read).transpose().map_err(|e| usage(&e))?;
    if authority.is_some() && registry.starts_with("http://") {
        return Err(usage(&anyhow::anyhow!("--ca is for an https address, and {registry} is none")));
    }
    let registry = Registry { url: registry.clone(), upstreams, authority };
    if *check {
        let found = cluster::check(*runtime, &registry, root);
        for one in &found {
            terminal::say(&format!("{} {}", one.path, one.words));
        }
        if global.json {
            print_json(&found)?;
        }
        if found.is_empty() {
            terminal::say("it pulls from here alone");
            return Ok(());
        }
        let ways =
            if found.len() == 1 { "1 way leads".to_owned() } else { format!("{} ways lead", found.len()) };
        let refusal = format!("{ways} past {}", registry.url);
        return Err(super::Said(FarmError::Decided { refusal }).into());
    }
    let files = cluster::files(*runtime, &registry);
    for note in &files.notes {
        terminal::say(note);
    }
    if let Some(folder) = write {
        for (path, text) in &files.files {
            let path = folder.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
            }
            if path.exists() && fs::read_to_string(&path).ok().as_ref() != Some(text) {
                let kept = path.with_extension("before-hab-build");
                fs::rename(&path, &kept).with_context(|| path.display().to_string())?;
                terminal::say(&format!("{} is kept as {}", path.display(), kept.display()));
            }
            fs::write(&path, text).with_context(|| path.display().to_string())?;
            terminal::say(&format!("{} is written", path.display()));
        }
        return if global.json { print_json(&files) } else { Ok(()) };
    }
    if global.json {
        return print_json(&files);
    }
    for (path, text) in &files.files {
        terminal::print(&format!("# /{path}\n{text}"));
    }
    Ok(())
}
