//! `hab-build mirror remove`.

use std::sync::Arc;

use hab_oci::{few, shown};

use crate::cli::{Global, print_json, terminal, usage};
use hab_farm::Progress;

pub fn run(global: &Global, project: &str, yes: bool) -> anyhow::Result<()> {
    let terminal = terminal::Terminal::start()?;
    let farm = global.open(Arc::clone(&terminal) as Arc<dyn Progress>)?;
    let removal = if yes { farm.mirror_remove(project) } else { farm.mirror_removal(project) };
    terminal.finish();
    let removal = removal?;
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
