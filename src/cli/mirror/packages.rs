//! `hab-build mirror packages` and `hab-build mirror crates`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::{Global, print_json, terminal};
use hab_farm::{Farm, FarmError, Packages, Progress, counted};

pub fn run(global: &Global) -> anyhow::Result<()> {
    keep(global, Farm::keep_packages)
}

pub fn crates(global: &Global, locks: &[PathBuf]) -> anyhow::Result<()> {
    keep(global, |farm| farm.keep_crates(locks))
}

fn keep(global: &Global, work: impl FnOnce(&Farm) -> Result<Packages, FarmError>) -> anyhow::Result<()> {
    let terminal = terminal::Terminal::start()?;
    let farm = global.open(Arc::clone(&terminal) as Arc<dyn Progress>)?;
    let kept = work(&farm);
    terminal.finish();
    let kept = kept?;
    for s in &kept.suites {
        terminal::say(&format!("{}: InRelease {}; indexes: {}", s.suite, s.in_release, s.indexes));
    }
    let (files, crates) = (counted(kept.files as u64, "file"), counted(kept.crates as u64, "crate"));
    terminal::say(&format!("kept: {files} of Debian archives, {crates}"));
    if global.json { print_json(&kept) } else { Ok(()) }
}
