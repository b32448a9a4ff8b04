//! Recipes: the operator's folders laid over the built-in ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hab_recipe::RecipeSet;
use hab_trusted_file::Readers;
use include_dir::{Dir, include_dir};

use crate::error::FarmError;
use crate::progress::Progress;
use hab_chain::chain;

/// The recipes that are built into the program, so that it runs without a checkout.
static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../recipes");

/// Loads recipes. Each folder overrides those before it, and all override the built-in ones, which count only with
/// `built_in`. Notes everything that is overridden.
pub fn recipes(folders: &[PathBuf], built_in: bool, progress: &dyn Progress) -> Result<RecipeSet, FarmError> {
    let mut set = RecipeSet::from_files(if built_in { embedded() } else { BTreeMap::new() });
    for folder in folders {
        entries(folder, "recipes")?;
        for taken in set.overlay(RecipeSet::load(folder, trusted)?) {
            progress.note(&format!("{taken} of {} takes the place of the one before it", folder.display()));
        }
    }
    Ok(set)
}

/// The entries of a folder that the operator laid over the built-in ones.
pub fn entries(folder: &Path, of: &str) -> Result<fs::ReadDir, FarmError> {
    let unreadable = |e| format!("the folder {} of {of} cannot be read: {e}", folder.display());
    fs::read_dir(folder).map_err(|e| FarmError::Usage(unreadable(e)))
}

/// Reads a file that decides what is built, if nobody else could have written it.
fn trusted(path: &Path, limit: u64) -> Result<String, FarmError> {
    hab_trusted_file::read_text(path, Readers::Everybody, limit).map_err(|e| FarmError::Usage(chain(&e)))
}

fn embedded() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for dir in BUILT_IN.dirs() {
        for file in dir.files() {
            if let (Some(path), Some(text)) = (file.path().to_str(), file.contents_utf8()) {
                files.insert(path.to_owned(), text.to_owned());
            }
        }
    }
    files
}
