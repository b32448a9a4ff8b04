//! `hab-build lock toolchain|recipe NAME`: writes a lock for a person to review and commit.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Global, print_json, terminal};
use crate::farm::{FarmError, Progress};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Resolve a toolchain's packages with apt and check the archive's signature chain
    Toolchain {
        /// The toolchain's name, as in recipes/toolchains
        name: String,
    },
    /// Resolve a recipe's sources
    Recipe {
        /// The recipe's name
        name: String,
        /// A version to add [default: those that are locked, or the newest]
        version: Option<String>,
    },
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let mut global = global.clone();
    let folder = global.recipes.clone().unwrap_or_else(|| PathBuf::from("recipes"));
    if !folder.join("toolchains").is_dir() {
        let text = format!("{} is not a folder of recipes; say which with --recipes DIR", folder.display());
        return Err(FarmError::Usage(text).into());
    }
    // A lock is written beside its recipe, so the recipes must be those of that folder.
    global.recipes = Some(folder.clone());
    let terminal = terminal::Terminal::start()?;
    let farm = global.open(Arc::clone(&terminal) as Arc<dyn Progress>)?;
    let locked = match &args.what {
        What::Toolchain { name } => farm.lock_toolchain(&folder, name),
        What::Recipe { name, version } => farm.lock_recipe(&folder, name, version.as_deref()),
    };
    terminal.finish();
    let locked = locked?;
    terminal::say(&format!("{}: {} entries, {}", locked.path.display(), locked.entries, locked.digest));
    if global.json { print_json(&locked) } else { Ok(()) }
}
