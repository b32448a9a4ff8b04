//! `hab-build mirror release` and `hab-build mirror files`.

use std::sync::Arc;

use crate::cli::{Global, print_json, terminal};
use hab_farm::{Progress, counted};

pub fn release(global: &Global, project: &str, versions: &[String]) -> anyhow::Result<()> {
    let terminal = terminal::Terminal::start()?;
    let farm = global.open(Arc::clone(&terminal) as Arc<dyn Progress>)?;
    let released = farm.sync_releases(project, versions);
    terminal.finish();
    let released = released?;
    for release in &released {
        let (version, files) = (&release.version, release.files.len());
        terminal::say(&format!(
            "{files} files of {project} {version} are here, as decided in {}",
            release.decision
        ));
    }
    if global.json { print_json(&released) } else { Ok(()) }
}

pub fn files(global: &Global, project: &str) -> anyhow::Result<()> {
    let terminal = terminal::Terminal::start()?;
    let farm = global.open(Arc::clone(&terminal) as Arc<dyn Progress>)?;
    let names = farm.sync_files(project);
    terminal.finish();
    let names = names?;
    terminal::say(&format!("here: {} of {project}", counted(names.len() as u64, "file")));
    if global.json { print_json(&names) } else { Ok(()) }
}
