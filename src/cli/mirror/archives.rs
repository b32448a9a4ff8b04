//! `hab-build mirror release` and `hab-build mirror files`.

use crate::cli::{Global, print_json, terminal};
use hab_farm::counted;

pub fn release(global: &Global, project: &str, versions: &[String]) -> anyhow::Result<()> {
    let farm = global.farm()?;
    let released = farm.finish(farm.releases().sync(project, versions))?;
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
    let farm = global.farm()?;
    let names = farm.finish(farm.releases().sync_files(project))?;
    terminal::say(&format!("here: {} of {project}", counted(names.len() as u64, "file")));
    if global.json { print_json(&names) } else { Ok(()) }
}
