//! `hab-build lock toolchain|recipe NAME`: writes a lock for a person to review and commit.

use std::path::PathBuf;

use super::{Global, complete, print_json, terminal};
use hab_farm::{FarmError, counted};

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
        #[arg(add = complete::toolchains())]
        name: String,
    },
    /// Resolve a recipe's sources
    Recipe {
        /// The recipe's name
        #[arg(add = complete::recipes())]
        name: String,
        /// A version to add [default: those that are locked, or the newest]
        version: Option<String>,
    },
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let mut global = global.clone();
    let folder = folder(&global, &args.what)?;
    // A lock is written beside its recipe, so the recipe must be the one in that folder.
    global.recipes = Some(folder.clone());
    let farm = global.farm()?;
    let locked = match &args.what {
        What::Toolchain { name } => farm.locks().toolchain(&folder, name),
        What::Recipe { name, version } => farm.locks().recipe(&folder, name, version.as_deref()),
    };
    let locked = farm.finish(locked)?;
    let entries = counted(locked.entries as u64, "entry");
    terminal::say(&format!("{}: {entries}, {}", locked.path.display(), locked.digest));
    if global.json { print_json(&locked) } else { Ok(()) }
}

/// The folder with the recipe or toolchain to lock: that of --recipes, or `recipes` here, or one that hab.toml names.
fn folder(global: &Global, what: &What) -> anyhow::Result<PathBuf> {
    let file = match what {
        What::Toolchain { name } => format!("toolchains/{name}.toml"),
        What::Recipe { name, .. } => format!("{name}/recipe.toml"),
    };
    let mut folders: Vec<PathBuf> = match &global.recipes {
        Some(folder) => vec![folder.clone()],
        None => vec![PathBuf::from("recipes")],
    };
    if global.recipes.is_none() {
        folders.extend(global.configuration()?.recipes.into_iter().rev());
    }
    if let Some(folder) = folders.iter().find(|folder| folder.join(&file).is_file()) {
        return Ok(folder.clone());
    }
    let looked = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
    let text =
        format!("there is no {file} in {looked}; say which folder of recipes has it with --recipes DIR");
    Err(FarmError::Usage(text).into())
}
