//! `hab-build mirror export` and `hab-build mirror import`.

use std::path::Path;

use hab_oci::{few, shown};

use crate::cli::{Global, print_json, terminal};

pub fn export(global: &Global, file: &Path, projects: &[String], since: Option<&Path>) -> anyhow::Result<()> {
    let terminal = terminal::Terminal::start()?;
    let farm = global.open(terminal.clone())?;
    let exported = farm.mirror_export(file, projects, since)?;
    terminal.finish();
    terminal::say(&format!(
        "{}: {} projects, {} blobs, {} bytes",
        file.display(),
        exported.projects,
        exported.blobs,
        exported.bytes
    ));
    if global.json { print_json(&exported) } else { Ok(()) }
}

pub fn import(global: &Global, file: &Path, strangers: bool) -> anyhow::Result<()> {
    let terminal = terminal::Terminal::start()?;
    // What is missing in the file is not fetched behind its back.
    let farm = Global { offline: true, ..global.clone() }.open(terminal.clone())?;
    let imported = farm.mirror_import(file, strangers)?;
    terminal.finish();
    for (project, synced) in &imported.projects {
        let waits = match synced.frozen.len() {
            0 => String::new(),
            n => format!(
                ", {n} waiting for `hab-build mirror accept`: {}",
                few(synced.frozen.iter().map(shown), 20, ", ")
            ),
        };
        terminal::say(&format!("{project}: {} changes{waits}", synced.changes));
    }
    terminal::say(&format!("{} blobs, {} names", imported.blobs, imported.names));
    if global.json { print_json(&imported) } else { Ok(()) }
}
