//! `hab-build store`: repairs a data folder whose halves do not belong together.
//!
//! None of these commands opens a farm, because a folder that cannot be used must still be looked at and repaired.

use std::path::{Path, PathBuf};

use hab_store::{Rebuild, Rebuilt, Span, Status, Store};
use serde_json::json;

use super::{Global, print_json, terminal};
use hab_farm::{FarmError, counted};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say whether the catalog and the blobs belong together, and what the catalog can be made again from
    Status,
    /// Make the catalog again, from its newest whole copy and the journal beside the blobs
    Rebuild {
        /// Another copy of catalog.sqlite to begin with, such as one from a backup
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Go on with this catalog and these blobs as they are
    Accept,
    /// Copy the catalog beside the blobs now; `serve` does so once a day
    Copy,
    /// List the files that a scrub set aside because the catalog does not know them
    Strays {
        /// Remove these files for good
        #[arg(long)]
        remove: bool,
        /// Only files that were last written at least this long ago
        #[arg(long, value_name = "TIME", default_value = "30d", requires = "remove")]
        older: Span,
    },
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let data = global.data()?;
    if !data.is_dir() {
        return Err(super::usage(anyhow::anyhow!("there is no data folder {}", data.display())));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &args.what {
            What::Status => status(global, &data).await,
            What::Rebuild { from } => rebuild(global, &data, from.clone()).await,
            What::Accept => accept(global, &data).await,
            What::Copy => copy(&data).await,
            What::Strays { remove, older } => strays(global, &data, remove.then_some(*older)).await,
        }
    })
}

async fn status(global: &Global, data: &Path) -> anyhow::Result<()> {
    let status = Status::of(data).await.map_err(FarmError::from)?;
    let catalog = match &status.catalog {
        None => "there is none".to_owned(),
        Some(Ok(changes)) => format!("{changes} changes"),
        Some(Err(why)) => format!("damaged: {why}"),
    };
    terminal::say(&format!("farm      {}", status.farm.as_deref().unwrap_or("not marked yet")));
    terminal::say(&format!("catalog   {catalog}"));
    terminal::say(&format!("journal   up to change {}", status.journal));
    for (path, changes) in &status.copies {
        terminal::say(&format!("copy      {changes} changes, {}", path.display()));
    }
    let (count, bytes) = status.strays;
    terminal::say(&format!("strays    {count} files, {bytes} bytes"));
    let error = match (&status.catalog, status.mismatch) {
        (_, Some(mismatch)) => Some(hab_store::Error::Mismatch { data: data.to_owned(), mismatch }),
        // Opening the store gives a better error and a hint.
        (Some(Err(_)), None) => Store::open(data).await.err(),
        _ => None,
    };
    let error = error.map(FarmError::from);
    let (sentence, hint) =
        (error.as_ref().map(ToString::to_string), error.as_ref().and_then(FarmError::hint));
    if global.json {
        let (changes, damaged) = match &status.catalog {
            None => (None, None),
            Some(Ok(changes)) => (Some(changes), None),
            Some(Err(why)) => (None, Some(why)),
        };
        let copies: Vec<_> =
            status.copies.iter().map(|(path, n)| json!({ "path": path, "changes": n })).collect();
        print_json(&json!({
            "farm": status.farm, "changes": changes, "damaged": damaged, "journal": status.journal, "copies": copies,
            "strays": { "files": count, "bytes": bytes }, "error": sentence, "hint": hint,
            "exit": error.as_ref().map_or(0, |error| super::ExitStatus::of(error) as u8),
        }))?;
    }
    let Some(error) = error else { return Ok(()) };
    terminal::error(&sentence.unwrap_or_default());
    if let Some(hint) = hint {
        terminal::hint(&hint);
    }
    Err(super::AlreadyShown(super::ExitStatus::of(&error)).into())
}

async fn rebuild(global: &Global, data: &Path, from: Option<PathBuf>) -> anyhow::Result<()> {
    terminal::say("making the catalog again; every blob stays where it is");
    let rebuilt = Rebuild { from }.run(data).await.map_err(FarmError::from)?;
    for (path, why) in &rebuilt.unusable {
        terminal::say(&format!("not used: {}: {why}", path.display()));
    }
    for line in told(&rebuilt) {
        terminal::say(&line);
    }
    if global.json {
        let unusable: Vec<_> =
            rebuilt.unusable.iter().map(|(path, why)| json!({ "path": path, "why": why })).collect();
        print_json(&json!({
            "base": rebuilt.base, "base_changes": rebuilt.base_changes, "replayed": rebuilt.replayed,
            "missing": rebuilt.missing, "damaged": rebuilt.damaged, "lost": rebuilt.lost, "strays": rebuilt.strays,
            "aside": rebuilt.aside, "unusable": unusable,
        }))?;
    }
    Ok(())
}

fn told(rebuilt: &Rebuilt) -> Vec<String> {
    let mut lines = Vec::new();
    match &rebuilt.base {
        Some(base) => lines.push(format!("began with {}: {} changes", base.display(), rebuilt.base_changes)),
        None => lines.push("began with an empty catalog: there is no copy".to_owned()),
    }
    lines.push(format!("changes made again from the journal: {}", rebuilt.replayed));
    if rebuilt.missing + rebuilt.damaged > 0 {
        lines.push(format!(
            "changes that the journal lacks: {}; lines of it that are damaged: {}",
            rebuilt.missing, rebuilt.damaged
        ));
    }
    if let Some(first) = rebuilt.lost.first() {
        lines.push(format!(
            "blobs that are gone, with what rests on them: {}, such as {first}",
            rebuilt.lost.len()
        ));
    }
    if rebuilt.strays > 0 {
        lines.push(format!("files put back that had been set aside as unknown: {}", rebuilt.strays));
    }
    if let Some(aside) = &rebuilt.aside {
        lines.push(format!("the catalog that was there before is kept in {}", aside.display()));
    }
    if rebuilt.base.is_none() && rebuilt.replayed == 0 {
        lines.push(
            "neither a copy nor the journal says what the blobs are: build, sync and push again; blobs that are here \
             are not fetched again"
                .to_owned(),
        );
    }
    lines
}

async fn accept(global: &Global, data: &Path) -> anyhow::Result<()> {
    let accepted = hab_store::accept(data).await.map_err(FarmError::from)?;
    terminal::say(&format!(
        "the catalog and the blobs are one farm from now on ({}); `hab-build registry scrub` names every blob that is gone",
        accepted.farm
    ));
    if let Some(first) = accepted.gone.first() {
        terminal::say(&format!("blobs that are gone: {}, such as {first}", accepted.gone.len()));
    }
    if global.json {
        print_json(&json!({ "farm": accepted.farm, "changes": accepted.changes, "gone": accepted.gone }))?;
    }
    Ok(())
}

async fn copy(data: &Path) -> anyhow::Result<()> {
    let store = Store::open(data).await.map_err(FarmError::from)?;
    store.copy_catalog().await.map_err(FarmError::from)?;
    terminal::say(&format!("copied to {}", data.join("blobs/catalog").display()));
    Ok(())
}

async fn strays(global: &Global, data: &Path, remove: Option<Span>) -> anyhow::Result<()> {
    let store = Store::open(data).await.map_err(FarmError::from)?;
    let found = match remove {
        Some(older) => store.remove_strays(older).await,
        None => store.strays().await,
    };
    let found = found.map_err(FarmError::from)?;
    for stray in &found {
        terminal::say(&format!(
            "{}  {} bytes  {} days",
            stray.digest,
            stray.size,
            stray.age.as_secs() / 86400
        ));
    }
    let bytes: u64 = found.iter().map(|stray| stray.size).sum();
    let verb = if remove.is_some() { "removed" } else { "set aside" };
    let (files, bytes) = (counted(found.len() as u64, "file"), counted(bytes, "byte"));
    terminal::say(&format!("{verb}: {files}, {bytes}"));
    if global.json {
        let files: Vec<_> = found
            .iter()
            .map(|stray| json!({ "digest": stray.digest, "size": stray.size, "age": stray.age.as_secs() }))
            .collect();
        print_json(&json!({ "removed": remove.is_some(), "files": files, "bytes": bytes }))?;
    }
    Ok(())
}
