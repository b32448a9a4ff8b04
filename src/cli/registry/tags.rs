//! Lists repositories and tags with their history, and moves or deletes tags.

use hab_oci::RepositoryName;
use hab_store::Back;
use serde_json::json;

use super::TagName;
use super::carry::TagOrRepository;
use crate::cli::{Global, print_json, terminal, usage};
use hab_farm::{Farm, counted};

pub fn repositories(global: &Global, farm: &Farm) -> anyhow::Result<()> {
    let rows = farm.images().repositories()?;
    for row in &rows {
        let (name, tags, manifests, bytes) = (&row.name, row.tags, row.manifests, row.bytes);
        let (tags, manifests) = (counted(tags, "tag"), counted(manifests, "manifest"));
        terminal::say(&format!("{name:<40} {tags:>11} {manifests:>16} {:>20}", counted(bytes, "byte")));
    }
    if rows.is_empty() {
        terminal::say("there are no repositories yet; a build, a push or an import makes one");
    }
    let row = |r: &hab_store::RepositoryRow| json!({ "name": r.name, "tags": r.tags, "manifests": r.manifests, "bytes": r.bytes });
    if global.json { print_json(&rows.iter().map(row).collect::<Vec<_>>()) } else { Ok(()) }
}

pub fn list(global: &Global, farm: &Farm, repository: &RepositoryName) -> anyhow::Result<()> {
    let rows = farm.images().tags(repository)?;
    for row in &rows {
        let pulled =
            row.pulled.map_or_else(|| "never pulled".to_owned(), |at| format!("pulled {}", stamp(at)));
        let (tag, since) = (row.tag.as_str(), stamp(row.moved));
        terminal::say(&format!("{tag:<30} {} since {since}, {pulled}", row.digest));
    }
    if rows.is_empty() {
        terminal::say(&format!("{repository} has no tags"));
    }
    let row = |r: &hab_store::TagRow| json!({ "tag": r.tag, "digest": r.digest, "moved": r.moved, "pulled": r.pulled });
    if global.json { print_json(&rows.iter().map(row).collect::<Vec<_>>()) } else { Ok(()) }
}

pub fn history(global: &Global, farm: &Farm, named: &TagName) -> anyhow::Result<()> {
    let moves = farm.images().tag_history(&named.repository, &named.tag)?;
    for each in &moves {
        let place = each.digest.as_ref().map_or_else(|| "deleted".to_owned(), ToString::to_string);
        terminal::say(&format!("{} {place}", stamp(each.at)));
    }
    let row = |m: &hab_store::TagMove| json!({ "digest": m.digest, "at": m.at });
    if global.json { print_json(&moves.iter().map(row).collect::<Vec<_>>()) } else { Ok(()) }
}

pub fn rollback(global: &Global, farm: &Farm, named: &TagName, back: &Back) -> anyhow::Result<()> {
    let digest = farm.images().rollback(&named.repository, &named.tag, back)?;
    terminal::say(&format!("{}:{} is {digest}", named.repository, named.tag));
    let report = json!({ "repository": named.repository, "tag": named.tag, "digest": digest });
    if global.json { print_json(&report) } else { Ok(()) }
}

pub fn delete(global: &Global, farm: &Farm, place: &TagOrRepository, yes: bool) -> anyhow::Result<()> {
    let TagOrRepository { repository, tag } = place;
    let what = match tag {
        Some(tag) => format!("{repository}:{tag}"),
        None => format!(
            "all tags of {repository} ({})",
            counted(farm.images().tags(repository)?.len() as u64, "tag")
        ),
    };
    if !yes && !terminal::agreed(&format!("delete {what}?"))? {
        return Err(usage(anyhow::anyhow!("{what}: not deleted; say --yes where nobody can be asked")));
    }
    let before = farm.images().unneeded()?;
    let gone = farm.images().delete_tags(repository, tag.as_ref())?;
    let freed = farm.images().unneeded()?.saturating_sub(before);
    for tag in &gone {
        terminal::say(&format!(
            "{repository}:{tag} is deleted; `hab-build registry rollback {repository}:{tag}` takes it back"
        ));
    }
    if gone.is_empty() {
        terminal::say(&format!("{repository} has no tags to delete"));
    }
    let grace = farm.config().registry.grace.seconds() / 3600;
    terminal::say(&format!(
        "a collection frees {} of it, once {} of grace are over",
        counted(freed, "byte"),
        counted(grace.unsigned_abs(), "hour")
    ));
    let report = json!({ "repository": repository, "tags": gone, "freed_later": freed });
    if global.json { print_json(&report) } else { Ok(()) }
}

fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |stamp| stamp.to_string())
}
