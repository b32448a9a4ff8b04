//! Syncs images of other registries by hand.

use hab_oci::Tag;
use hab_registry::Change;
use serde_json::{Value, json};

use crate::cli::{AlreadyPrinted, Global, print_json, terminal};
use hab_farm::images::sync::{ImageSync, failure};
use hab_farm::{Farm, chain, counted};

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
    let mut rows = Vec::new();
    for ImageSync { repository: name, outcome } in &all {
        match outcome {
            Ok(synced) => {
                let (count, listed) = (synced.tags.len(), synced.listed);
                let (listed, bytes) = (counted(listed as u64, "tag"), counted(synced.bytes, "byte"));
                terminal::say(&format!("{name}: {count} of {listed}, {bytes} came"));
                let tags: Vec<Value> = synced.tags.iter().map(|(tag, change)| row(tag, change)).collect();
                rows.push(
                    json!({ "repository": name, "listed": synced.listed, "bytes": synced.bytes, "tags": tags }),
                );
            }
            Err(e) => {
                terminal::say(&format!("{name} is not synced: {}", chain(e)));
                rows.push(json!({ "repository": name, "error": e.to_string() }));
            }
        }
    }
    if global.json {
        print_json(&rows)?;
    }
    failure(&all).map_or(Ok(()), |error| Err(AlreadyPrinted(error).into()))
}

fn row(tag: &Tag, change: &Change) -> Value {
    match change {
        Change::Same(at) => json!({ "tag": tag, "change": "same", "digest": at }),
        Change::New(to) => json!({ "tag": tag, "change": "new", "digest": to }),
        Change::Moved { from, to } => json!({ "tag": tag, "change": "moved", "digest": to, "was": from }),
        Change::Failed(e) => json!({ "tag": tag, "change": "failed", "error": e.to_string() }),
    }
}
