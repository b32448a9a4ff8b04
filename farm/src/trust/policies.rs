//! Policies by name, built in or from the operator's folders: they say who must have signed what.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hab_keys::Policy;
use hab_recipe::RecipeName;
use hab_trusted_file::Readers;
use include_dir::{Dir, include_dir};

use crate::error::FarmError;
use crate::overlay::entries;
use crate::progress::Progress;
use hab_chain::chain;

/// The policies that are built into the program, so that it runs without a checkout.
static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../keys/trust");

/// The most bytes of a policy.
const LARGEST: u64 = 1 << 20;

/// The policies of a farm.
pub struct Policies {
    /// Folders that override the built-in policies; each overrides those before it.
    folders: Vec<PathBuf>,
    built_in: bool,
}

impl Policies {
    /// Opens folders of policies. Each overrides those before it, and all override the built-in ones, which count only
    /// with `built_in`. Notes every policy that is overridden: who decides what is accepted must not change in silence.
    pub fn open(folders: Vec<PathBuf>, built_in: bool, progress: &dyn Progress) -> Result<Self, FarmError> {
        let policies = Self { folders, built_in };
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        let texts =
            policies.built_in_names().filter_map(|name| Some((name.to_owned(), shipped(name)?.to_owned())));
        known.extend(texts);
        for folder in &policies.folders {
            for name in names_in(folder)? {
                let Some(text) = read(folder, &name)? else { continue };
                if known.insert(name.clone(), text.clone()).is_some_and(|before| before != text) {
                    let folder = folder.display();
                    progress.note(&format!("policy {name} of {folder} takes the place of the one before it"));
                }
            }
        }
        Ok(policies)
    }

    /// The policy of that name.
    pub fn get(&self, name: &str) -> Result<Policy, FarmError> {
        // A policy's name is a folder's name, and must not lead out of that folder.
        if name.parse::<RecipeName>().is_err() {
            return Err(self.unknown(name));
        }
        // The last folder that has the policy counts. If it cannot be read there, a milder policy in an earlier folder
        // must not take its place.
        for folder in self.folders.iter().rev() {
            if let Some(text) = read(folder, name)? {
                return Ok(Policy::parse(name, &text)?);
            }
        }
        let text = if self.built_in { shipped(name) } else { None };
        Ok(Policy::parse(name, text.ok_or_else(|| self.unknown(name))?)?)
    }

    /// The names of all policies.
    pub fn names(&self) -> Result<Vec<String>, FarmError> {
        let mut names: Vec<String> = self.built_in_names().map(str::to_owned).collect();
        for folder in &self.folders {
            names.extend(names_in(folder)?);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The policy of that name; without one, all of them.
    pub fn some(&self, name: Option<&str>) -> Result<Vec<Policy>, FarmError> {
        match name {
            Some(name) => Ok(vec![self.get(name)?]),
            None => self.names()?.iter().map(|name| self.get(name)).collect(),
        }
    }

    fn built_in_names(&self) -> impl Iterator<Item = &'static str> {
        BUILT_IN.dirs().filter(|_| self.built_in).filter_map(|dir| dir.path().to_str())
    }

    fn unknown(&self, name: &str) -> FarmError {
        let known = self.names().unwrap_or_default().join(", ");
        FarmError::UnknownPolicy { name: name.chars().take(100).collect(), known }
    }
}

fn shipped(name: &str) -> Option<&'static str> {
    BUILT_IN.get_file(format!("{name}/policy.toml"))?.contents_utf8()
}

/// A policy's text, if the folder has one of that name.
fn read(folder: &Path, name: &str) -> Result<Option<String>, FarmError> {
    match hab_trusted_file::read_text(&folder.join(name).join("policy.toml"), Readers::Everybody, LARGEST) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.is_missing() => Ok(None),
        Err(e) => Err(FarmError::Usage(chain(&e))),
    }
}

/// The names of a folder's policies.
fn names_in(folder: &Path) -> Result<Vec<String>, FarmError> {
    // A `policy.toml` that is not a file is reported when it is read.
    let has_policy = |e: &fs::DirEntry| e.path().join("policy.toml").symlink_metadata().is_ok();
    let named = entries(folder, "policies")?.filter_map(|e| e.ok().filter(has_policy));
    Ok(named.filter_map(|e| e.file_name().into_string().ok()).collect())
}
