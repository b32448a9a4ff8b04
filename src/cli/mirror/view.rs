//! `hab-build mirror view`: which refs the verified view shows, and why it hides the others.

use hab_oci::shown;

use crate::cli::{Global, print_json, terminal};

pub fn run(global: &Global, project: &str, references: &[String]) -> anyhow::Result<()> {
    let farm = global.farm()?;
    let view = farm.finish(farm.views().standings(project, references))?;
    for one in &view {
        let state = match &one.shown {
            Some(id) if *id == one.id => "shown",
            Some(_) => "older",
            None => "missing",
        };
        let why = one.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        terminal::say(&format!("{state:<7} {}{why}", shown(&one.reference)));
    }
    let count = view.iter().filter(|one| one.shown.is_some()).count();
    terminal::say(&format!("{count} of {} refs of {project} are in its verified view", view.len()));
    if global.json { print_json(&view) } else { Ok(()) }
}
