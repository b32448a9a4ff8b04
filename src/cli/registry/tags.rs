//! Repositories and tags, now and before.

use hab_oci::RepositoryName;
use hab_store::Back;
use serde_json::json;

use super::Named;
use crate::cli::{Global, print_json, terminal};
use crate::farm::Farm;

pub fn repositories(global: &Global, farm: &Farm) -> anyhow::Result<()> {
    let rows = farm.repositories()?;
    for row in &rows {
        let (name, tags, manifests, bytes) = (&row.name, row.tags, row.manifests, row.bytes);
        terminal::say(&format!("{name:<40} {tags:>6} tags {manifests:>6} manifests {bytes:>14} bytes"));
    }
    let row = |r: &hab_store::RepositoryRow| json!({ "name": r.name, "tags": r.tags, "manifests": r.manifests, "bytes": r.bytes });
    if global.json { print_json(&rows.iter().map(row).collect::<Vec<_>>()) } else { Ok(()) }
}

pub fn list(global: &Global, farm: &Farm, repository: &RepositoryName) -> anyhow::Result<()> {
    let rows = farm.tags(repository)?;
    for row in &rows {
        let pulled =
            row.pulled.map_or_else(|| "never pulled".to_owned(), |at| format!("pulled {}", stamp(at)));
        let (tag, since) = (row.tag.as_str(), stamp(row.moved));
        terminal::say(&format!("{tag:<30} {} since {since}, {pulled}", row.digest));
    }
    let row = |r: &hab_store::TagRow| json!({ "tag": r.tag, "digest": r.digest, "moved": r.moved, "pulled": r.pulled });
    if global.json { print_json(&rows.iter().map(row).collect::<Vec<_>>()) } else { Ok(()) }
}

pub fn history(global: &Global, farm: &Farm, named: &Named) -> anyhow::Result<()> {
    let moves = farm.tag_history(&named.repository, &named.tag)?;
    for each in &moves {
        let place = each.digest.as_ref().map_or_else(|| "deleted".to_owned(), ToString::to_string);
        terminal::say(&format!("{} {place}", stamp(each.at)));
    }
    let row = |m: &hab_store::TagMove| json!({ "digest": m.digest, "at": m.at });
    if global.json { print_json(&moves.iter().map(row).collect::<Vec<_>>()) } else { Ok(()) }
}

pub fn rollback(global: &Global, farm: &Farm, named: &Named, back: &Back) -> anyhow::Result<()> {
    let digest = farm.rollback(&named.repository, &named.tag, back)?;
    terminal::say(&format!("{}:{} is {digest}", named.repository, named.tag));
    let report = json!({ "repository": named.repository, "tag": named.tag, "digest": digest });
    if global.json { print_json(&report) } else { Ok(()) }
}

fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |stamp| stamp.to_string())
}
