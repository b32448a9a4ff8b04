//! `hab-build keys`: the pinned keys, and what is known about them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hab_keys::KeyId;

use super::{AlreadyPrinted, Global, complete, print_json, terminal, usage};
use hab_farm::Farm;
use hab_farm::trust::keyring::{Refreshed, RefreshedKey};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the pinned keys, until when they are good, and when they last signed something new
    List {
        /// Only this policy's keys
        #[arg(add = complete::policies())]
        policy: Option<String>,
    },
    /// Import certificates into the data folder; they add to those there, and nothing is lost
    Import {
        /// Files, or folders of .gpg, .pgp, .asc and .txt files
        #[arg(required = true)]
        places: Vec<PathBuf>,
    },
    /// Show everything that is known about one key
    Show {
        /// Its full fingerprint, or SHA256:... of an SSH key
        fingerprint: String,
    },
    /// Search for missing and for newer certificates: in mirrored folders, in key directories and at key servers
    Refresh {
        /// Only this policy's keys
        #[arg(add = complete::policies())]
        policy: Option<String>,
    },
    /// List keys that expire within 90 days or are not good any more, and those that have only a pin or only a
    /// certificate
    Audit {
        /// Only this policy's keys
        #[arg(add = complete::policies())]
        policy: Option<String>,
    },
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let farm = global.farm()?;
    if let What::Refresh { policy } = &args.what {
        let refreshed = farm.finish(farm.keyring().refresh(policy.as_deref()))?;
        return say_refreshed(global, &refreshed);
    }
    look(global, args, &farm)
}

fn say_refreshed(global: &Global, refreshed: &Refreshed) -> anyhow::Result<()> {
    let Refreshed { keys, offline, .. } = refreshed;
    for key in keys {
        let RefreshedKey { fingerprint, name, found, after, .. } = key;
        let what = match (key.learned, found.is_empty()) {
            (true, _) => "learned something new",
            (false, false) => "nothing new",
            (false, true) if key.unanswered => "nobody answered",
            (false, true) => "found nowhere",
        };
        let places = if found.is_empty() { String::new() } else { format!(" ({})", found.join(", ")) };
        terminal::say(&format!("{fingerprint}  {name:<28} {what}{places}; {after}"));
    }
    let learned = keys.iter().filter(|key| key.learned).count();
    let asked = if *offline { "; nobody outside was asked (--offline)" } else { "" };
    terminal::say(&format!(
        "{learned} of {} certificates are new or say more than before{asked}",
        keys.len()
    ));
    if global.json {
        print_json(refreshed)?;
    }
    refreshed.failure().map_or(Ok(()), |failure| Err(AlreadyPrinted(failure).into()))
}

/// Prints what a person can do, once for all keys with the same advice.
fn say_advice<'a>(rows: impl Iterator<Item = (&'a str, &'a Option<String>)>) {
    let mut by_advice: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, advice) in rows {
        if let Some(advice) = advice {
            by_advice.entry(advice).or_default().push(name);
        }
    }
    for (advice, names) in by_advice {
        terminal::say(&format!("for {}: {advice}", names.join(", ")));
    }
}

fn look(global: &Global, args: &Args, farm: &Farm) -> anyhow::Result<()> {
    match &args.what {
        What::Refresh { .. } => Ok(()),
        What::List { policy } => {
            let rows = farm.keyring().rows(policy.as_deref())?;
            for row in &rows {
                terminal::say(&format!(
                    "{:<16} {}  {:<28} {:<34} {}",
                    row.policy,
                    row.fingerprint,
                    row.name,
                    row.standing.to_string(),
                    last(row.last_signed)
                ));
            }
            say_advice(rows.iter().map(|row| (row.name.as_str(), &row.advice)));
            if global.json { print_json(&rows) } else { Ok(()) }
        }
        What::Import { places } => {
            let kept = farm.keyring().import(places)?;
            let list = |keys: &[hab_keys::Fingerprint]| -> Vec<String> {
                keys.iter().map(|f| KeyId::OpenPgp(f.clone()).to_string()).collect()
            };
            let (new, grown) = (list(&kept.new), list(&kept.grown));
            for (keys, word) in [(&new, "new"), (&grown, "has more than it had")] {
                for key in keys {
                    terminal::say(&format!("{key}  {word}"));
                }
            }
            terminal::say(&format!(
                "{} new, {} grown, {} unchanged",
                new.len(),
                grown.len(),
                kept.unchanged.len()
            ));
            let unchanged = list(&kept.unchanged);
            let report = serde_json::json!({ "new": new, "grown": grown, "unchanged": unchanged });
            if global.json { print_json(&report) } else { Ok(()) }
        }
        What::Show { fingerprint } => {
            let id: KeyId = fingerprint.parse().map_err(|e: String| usage(anyhow::anyhow!(e)))?;
            let (rows, standing) = farm.keyring().show(&id)?;
            terminal::say(&format!("{id}  {standing}"));
            for row in &rows {
                let groups = if row.groups.is_empty() {
                    String::new()
                } else {
                    format!(", in {}", row.groups.join(", "))
                };
                terminal::say(&format!("  pinned by {} as {}{groups}: {}", row.policy, row.name, row.reason));
                terminal::say(&format!("  {}", last(row.last_signed)));
            }
            say_advice(rows.iter().map(|row| (row.name.as_str(), &row.advice)));
            if rows.is_empty() {
                terminal::say("  no policy pins it");
            }
            let report =
                serde_json::json!({ "fingerprint": id.to_string(), "standing": standing, "pins": rows });
            if global.json { print_json(&report) } else { Ok(()) }
        }
        What::Audit { policy } => {
            let findings = farm.keyring().audit(policy.as_deref())?;
            for f in &findings {
                let policies = if f.policies.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", f.policies.join(", "))
                };
                let mark = if f.urgent { "!" } else { " " };
                terminal::say(&format!("{mark} {}  {}{policies}: {}", f.fingerprint, f.name, f.words));
            }
            say_advice(findings.iter().map(|f| (f.name.as_str(), &f.advice)));
            let urgent = findings.iter().filter(|f| f.urgent).count();
            terminal::say(&format!(
                "{} findings, {urgent} of them about keys that cannot be used now",
                findings.len()
            ));
            if global.json { print_json(&findings) } else { Ok(()) }
        }
    }
}

fn last(seconds: Option<u64>) -> String {
    let stamp =
        seconds.and_then(|s| i64::try_from(s).ok()).and_then(|s| jiff::Timestamp::from_second(s).ok());
    stamp.map_or_else(|| "not seen signing here".to_owned(), |stamp| format!("last seen signing {stamp}"))
}
