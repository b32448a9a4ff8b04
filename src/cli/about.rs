//! `hab-build version`, `completions` and `man`: about the program itself.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::{Global, print_json, terminal};

/// The commit that the program was built from, if that was known then.
const COMMIT: Option<&str> = option_env!("HAB_BUILD_COMMIT");

pub fn version(global: &Global) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if global.json {
        return print_json(&json!({ "version": version, "commit": COMMIT }));
    }
    let commit = COMMIT.map_or_else(String::new, |commit| format!(" ({commit})"));
    terminal::print(&format!("hab-build {version}{commit}"));
    Ok(())
}

/// The variable by which a shell asks this program to complete a word.
pub const COMPLETE: &str = "HAB_COMPLETE";

/// Prints a script by which a shell asks this program for completions, names of the farm among them.
pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let known = clap_complete::env::Shells::builtins();
    let name = shell.to_string();
    let completer = known.completer(&name).with_context(|| format!("{name} cannot be completed for"))?;
    let mut script = Vec::new();
    let program = "hab-build";
    completer.write_registration(COMPLETE, program, program, program, &mut script)?;
    to_stdout(&script)
}

/// Writes to stdout. It is no fault if a reader takes only the beginning.
fn to_stdout(bytes: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}

pub fn man(folder: Option<&Path>, command: clap::Command) -> anyhow::Result<()> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).context("cannot make the page")?;
        return to_stdout(&page);
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let cannot = || format!("cannot write pages into {}", folder.display());
    // Pages are made in a temporary folder and moved. So a file with a page's name is replaced, and nothing is written
    // through a link.
    let made = tempfile::tempdir_in(folder).with_context(cannot)?;
    clap_mangen::generate_to(command, made.path()).with_context(cannot)?;
    for page in fs::read_dir(made.path()).with_context(cannot)? {
        let page = page.with_context(cannot)?;
        fs::rename(page.path(), folder.join(page.file_name())).with_context(cannot)?;
    }
    terminal::say(&format!("the pages are in {}", folder.display()));
    Ok(())
}
