//! Syncs images of other registries by hand.

use hab_oci::Tag;
use hab_registry::{Change, SyncError};
use serde_json::{Value, json};

use crate::cli::{AlreadyPrinted, Global, print_json, terminal};
use hab_farm::images::sync::ImageSync;
use hab_farm::{Farm, FarmError, Fault, chain, counted};

pub fn run(global: &Global, farm: &Farm, only: Option<&str>, dry_run: bool) -> anyhow::Result<()> {
    let told = |name: &str, tag: &Tag, change: &Change| {
        let would = if dry_run { "would be" } else { "is" };
        terminal::say(&match change {
            Change::Same(at) => format!("{name}:{tag} is {at}, as before"),
            Change::New(to) => format!("{name}:{tag} {would} {to}, new"),
            Change::Moved { from, to } => format!("{name}:{tag} {would} {to}; it was {from}"),
            Change::Failed(e) => format!("{name}:{tag} is not synced: {}", chain(e)),
        });
    };
    let all = farm.image_syncs().once(&farm.upstreams()?, only, dry_run, told)?;
    let (mut rows, mut total, mut failed, mut first) = (Vec::new(), 0, 0, None);
    let mut failure = |e: &SyncError| {
        failed += 1;
        first.get_or_insert(fault(e));
    };
    for ImageSync { repository: name, outcome } in &all {
        match outcome {
            Ok(synced) => {
                total += synced.tags.len();
                let (count, listed) = (synced.tags.len(), synced.listed);
                let (listed, bytes) = (counted(listed as u64, "tag"), counted(synced.bytes, "byte"));
                terminal::say(&format!("{name}: {count} of {listed}, {bytes} came"));
                for (_, change) in &synced.tags {
                    if let Change::Failed(e) = change {
                        failure(e);
                    }
                }
                let tags: Vec<Value> = synced.tags.iter().map(|(tag, change)| row(tag, change)).collect();
                rows.push(
                    json!({ "repository": name, "listed": synced.listed, "bytes": synced.bytes, "tags": tags }),
                );
            }
            Err(e) => {
                total += 1;
                failure(e);
                terminal::say(&format!("{name} is not synced: {}", chain(e)));
                rows.push(json!({ "repository": name, "error": e.to_string() }));
            }
        }
    }
    if global.json {
        print_json(&rows)?;
    }
    match first {
        None => Ok(()),
        Some(fault) => Err(AlreadyPrinted(FarmError::NotSynced { failed, total, fault }).into()),
    }
}

fn row(tag: &Tag, change: &Change) -> Value {
    match change {
        Change::Same(at) => json!({ "tag": tag, "change": "same", "digest": at }),
        Change::New(to) => json!({ "tag": tag, "change": "new", "digest": to }),
        Change::Moved { from, to } => json!({ "tag": tag, "change": "moved", "digest": to, "was": from }),
        Change::Failed(e) => json!({ "tag": tag, "change": "failed", "error": e.to_string() }),
    }
}

fn fault(error: &SyncError) -> Fault {
    if error.is_refusal() {
        Fault::Refused
    } else if error.is_upstream() {
        Fault::Upstream
    } else {
        Fault::Ours
    }
}
