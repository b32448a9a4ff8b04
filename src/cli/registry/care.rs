//! Collection and scrub: removes what nothing needs, and checks that the rest is what it was.

use hab_store::Bytes;
use serde_json::json;

use crate::cli::{AlreadyPrinted, Global, print_json, terminal};
use hab_farm::images::{held_back, words};
use hab_farm::{Farm, FarmError, counted};

pub fn gc(global: &Global, farm: &Farm, dry_run: bool) -> anyhow::Result<()> {
    let gone = farm.images().collect(dry_run)?;
    for (repository, tag) in &gone.tags {
        terminal::say(&format!("{repository}:{tag}"));
    }
    for line in held_back(&gone) {
        terminal::say(&line);
    }
    let verb = if dry_run { "would be removed" } else { "removed" };
    terminal::say(&format!("{} {verb}", words(&gone)));
    let tags: Vec<_> = gone.tags.iter().map(|(name, tag)| format!("{name}:{tag}")).collect();
    let held: Vec<_> = gone
        .held_back
        .iter()
        .map(|(name, uploads, since)| json!({ "repository": name.to_string(), "uploads": uploads, "since": since }))
        .collect();
    let report = json!({
        "tags": tags, "manifests": gone.manifests, "blobs": gone.blobs, "bytes": gone.bytes, "held_back": held,
    });
    if global.json { print_json(&report) } else { Ok(()) }
}

pub fn scrub(global: &Global, farm: &Farm, rate: Option<Bytes>) -> anyhow::Result<()> {
    let found = farm.images().scrub(rate, farm.reachable_upstreams()?.as_ref())?;
    let known = "damaged or gone, as an earlier pass found";
    for (digests, what) in
        [(&found.damaged, "damaged, set aside"), (&found.missing, "gone"), (&found.known, known)]
    {
        for digest in digests {
            let again = if found.mended.contains(digest) { "; fetched again" } else { "" };
            terminal::say(&format!("{digest}  {what}{again}"));
        }
    }
    let (files, bytes, strays) = (found.files, found.bytes, found.strays);
    terminal::say(&format!(
        "hashed: {} of {}; set aside, because the catalog does not know them: {}",
        counted(files, "file"),
        counted(bytes, "byte"),
        counted(strays, "file")
    ));
    if global.json {
        print_json(&json!({
            "files": files, "bytes": bytes, "damaged": found.damaged, "missing": found.missing, "known": found.known, "mended": found.mended,
            "strays": strays,
        }))?;
    }
    let all = found.damaged.iter().chain(&found.missing).chain(&found.known);
    let lost = all.filter(|digest| !found.mended.contains(digest));
    match lost.count() {
        0 => Ok(()),
        count => Err(AlreadyPrinted(FarmError::Damaged(count)).into()),
    }
}
