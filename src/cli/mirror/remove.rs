//! `hab-build mirror remove`.

use hab_oci::{few, shown};

use crate::cli::{Global, print_json, terminal, usage};

pub fn run(global: &Global, project: &str, yes: bool) -> anyhow::Result<()> {
    let farm = global.farm()?;
    let mirrors = farm.mirrors();
    let removal = farm.finish(if yes { mirrors.remove(project) } else { mirrors.removal(project) })?;
    let (verb, bytes, refs) = (if yes { "removed" } else { "would go" }, removal.bytes, removal.refs);
    terminal::say(&format!("{verb}: the mirror of {project} with {refs} branches and tags, {bytes} bytes"));
    if removal.history > 0 {
        let values = match removal.history {
            1 => "1 value".to_owned(),
            n => format!("{n} values"),
        };
        terminal::say(&format!(
            "{verb} with it: {values} that upstream changed or took back, which nobody else may have any more; \
             `hab-build mirror export FILE {project}` keeps them"
        ));
    }
    if !removal.frozen.is_empty() {
        let names = few(removal.frozen.iter().map(shown), 20, " ");
        terminal::say(&format!("{verb} undecided: {names}"));
    }
    match &removal.journal {
        Some(journal) => terminal::say(&format!("kept: its journal, as {}", journal.display())),
        None if yes => terminal::say("it had no journal"),
        None => {
            terminal::say("would stay: its journal, its project file, and everything that was built of it");
        }
    }
    if !yes {
        return Err(usage(anyhow::anyhow!(
            "nothing was removed; `hab-build mirror remove {project} --yes` does it"
        )));
    }
    if global.json { print_json(&removal) } else { Ok(()) }
}
