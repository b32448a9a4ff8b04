//! `hab-build mirror packages` and `hab-build mirror crates`.

use std::path::PathBuf;

use crate::cli::{Global, print_json, terminal};
use hab_farm::source::packages::KeptPackages;
use hab_farm::{Farm, FarmError, counted};

pub fn run(global: &Global) -> anyhow::Result<()> {
    keep(global, |farm| farm.packages().keep())
}

pub fn crates(global: &Global, locks: &[PathBuf]) -> anyhow::Result<()> {
    keep(global, |farm| farm.packages().keep_crates(locks))
}

fn keep(global: &Global, work: impl FnOnce(&Farm) -> Result<KeptPackages, FarmError>) -> anyhow::Result<()> {
    let farm = global.farm()?;
    let kept = farm.finish(work(&farm))?;
    for s in &kept.suites {
        terminal::say(&format!("{}: InRelease {}; indexes: {}", s.suite, s.in_release, s.indexes));
    }
    let (files, crates) = (counted(kept.files as u64, "file"), counted(kept.crates as u64, "crate"));
    terminal::say(&format!("kept: {files} of Debian archives, {crates}"));
    if global.json { print_json(&kept) } else { Ok(()) }
}
