//! `hab-build mirror export` and `hab-build mirror import`.

use std::path::Path;

use hab_oci::{few, shown};

use crate::cli::{Global, print_json, terminal};
use hab_farm::carry::import::{ImportSelection, Taken};
use hab_farm::counted;

/// How many names are shown of a list that a stranger made.
const SHOWN: usize = 5;

pub fn export(global: &Global, file: &Path, projects: &[String], since: Option<&Path>) -> anyhow::Result<()> {
    let farm = global.farm()?;
    let exported = farm.finish(farm.exporter().run(file, projects, since))?;
    terminal::say(&format!(
        "{}: {}, {}, {}",
        file.display(),
        counted(exported.projects as u64, "project"),
        counted(exported.blobs as u64, "blob"),
        counted(exported.bytes, "byte")
    ));
    if global.json { print_json(&exported) } else { Ok(()) }
}

pub fn import(global: &Global, file: &Path, wanted: &ImportSelection) -> anyhow::Result<()> {
    // An import does not fetch what its file lacks.
    let farm = Global { offline: true, ..global.clone() }.farm()?;
    let imported = farm.finish(farm.import(file, wanted))?;
    for (project, Taken { new, refs, synced }) in &imported.projects {
        let waits = match synced.frozen.len() {
            0 => String::new(),
            n => format!(
                ", {n} waiting for `hab-build mirror accept`: {}",
                few(synced.frozen.iter().map(shown), 20, ", ")
            ),
        };
        let what = match (new, synced.changes) {
            (true, _) => format!("new here, with {refs} refs"),
            (false, 1) => "1 change".to_owned(),
            (false, changes) => format!("{changes} changes"),
        };
        terminal::say(&format!("{project}: {what}{waits}"));
    }
    if let Some(sentence) = left_out(&imported.strangers) {
        terminal::say(&sentence);
    }
    let kept = imported.blobs - imported.nameless.blobs;
    terminal::say(&format!(
        "{kept} of {} files are kept, and {} names are new",
        imported.blobs, imported.names
    ));
    if imported.nameless.blobs > 0 {
        terminal::say(&format!(
            "not kept, because nothing here names them: {} of {}; locks, projects and policies name some, and so do \
             --crates and --depends",
            counted(imported.nameless.blobs as u64, "file"),
            counted(imported.nameless.bytes, "byte")
        ));
    }
    if global.json { print_json(&imported) } else { Ok(()) }
}

/// The sentence about projects in the file that are not known here, if there are any.
fn left_out(strangers: &[String]) -> Option<String> {
    let first = strangers.first()?;
    let way = format!("`hab-build mirror add {first}` adds it, --new-projects adds all that the file has");
    Some(if strangers.len() == 1 {
        format!("{first} is left out, because no project here has that name; {way}")
    } else {
        let more = if strangers.len() > SHOWN { " and others" } else { "" };
        let shown = strangers[..strangers.len().min(SHOWN)].join(", ");
        let count = strangers.len();
        format!(
            "{count} projects are left out, because no project here has their names: {shown}{more}; {way}"
        )
    })
}
