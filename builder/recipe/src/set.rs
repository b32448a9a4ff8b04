//! A folder of recipes and toolchains.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use crate::{Recipe, RecipeError, RecipeLock, RecipeName, SourceTable, Toolchain, ToolchainLock};

/// The largest recipe file that is read, in bytes.
const LIMIT: u64 = 4 << 20;

/// The texts of all recipes and toolchains, read from a folder or built into the program.
#[derive(Clone, Debug, Default)]
pub struct RecipeSet {
    /// Each file's text, by its path below the folder, with slashes.
    files: BTreeMap<String, String>,
}

/// One recipe, with everything from its folder that a plan needs.
#[derive(Clone, Debug)]
pub struct RecipeText {
    /// The recipe.
    pub recipe: Recipe,
    /// The build script's text.
    pub script: String,
    /// The recipe's toolchain.
    pub toolchain: Toolchain,
}

impl RecipeSet {
    /// A set of texts by their paths, such as `bitcoin/recipe.toml` and `toolchains/debian-12.lock`.
    pub fn from_files(files: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { files: files.into_iter().collect() }
    }

    /// Reads the files of a folder that recipes consist of, two levels deep. `read` returns a file's text, and fails if
    /// it is longer than the given number of bytes; the caller decides there which files it trusts.
    pub fn load<E: From<RecipeError>>(
        folder: &Path,
        read: impl Fn(&Path, u64) -> Result<String, E>,
    ) -> Result<Self, E> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| RecipeError::Io { path, source }
        };
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(io(folder))? {
            let dir = entry.map_err(io(folder))?.path();
            let Some(dir_name) = dir.file_name().and_then(|n| n.to_str()).filter(|_| dir.is_dir()) else {
                continue;
            };
            for entry in fs::read_dir(&dir).map_err(io(&dir))? {
                let file = entry.map_err(io(&dir))?.path();
                let wanted =
                    matches!(file.extension().and_then(|e| e.to_str()), Some("toml" | "lock" | "sh"));
                let Some(name) = file.file_name().and_then(|n| n.to_str()).filter(|_| wanted) else {
                    continue;
                };
                files.insert(format!("{dir_name}/{name}"), read(&file, LIMIT)?);
            }
        }
        Ok(Self { files })
    }

    /// Lays another set over this one: a recipe or toolchain of `over` replaces the one of the same name, with all its
    /// files. Returns those that were replaced by something different, such as `recipe bitcoin`.
    pub fn overlay(&mut self, over: Self) -> Vec<String> {
        let mut taken = Vec::new();
        let (mine, theirs) = (units(&self.files), units(&over.files));
        for (unit, paths) in &theirs {
            // A lock that comes without its .toml replaces the earlier lock only.
            let whole = paths.iter().any(|path| path.ends_with(".toml"));
            let before = mine.get(unit).map(Vec::as_slice).unwrap_or_default();
            let changed = paths.iter().any(|path| self.files.get(path) != over.files.get(path))
                || (whole && before.iter().any(|path| !paths.contains(path)));
            if !before.is_empty() && changed {
                taken.push(unit.clone());
            }
            if whole {
                self.files.retain(|path, _| !before.contains(path));
            }
        }
        self.files.extend(over.files);
        taken
    }

    /// The recipes' names.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> =
            self.files.keys().filter_map(|path| path.strip_suffix("/recipe.toml")).collect();
        names.sort_unstable();
        names
    }

    /// The toolchains' names.
    pub fn toolchains(&self) -> Vec<&str> {
        let names = self.files.keys().filter_map(|path| path.strip_prefix("toolchains/"));
        names.filter_map(|file| file.strip_suffix(".toml")).collect()
    }

    /// The recipe `name` with its script and toolchain.
    pub fn recipe(&self, name: &str) -> Result<RecipeText, RecipeError> {
        let unknown = || RecipeError::UnknownRecipe {
            name: name.chars().take(100).collect(),
            known: self.names().join(", "),
        };
        let text = self.files.get(&format!("{name}/recipe.toml")).ok_or_else(unknown)?;
        let name: RecipeName = name.parse()?;
        let recipe = Recipe::parse(&name, text)?;
        let script =
            self.text(&format!("{}/build.sh", recipe.build.script_of.as_ref().unwrap_or(&name)))?.to_owned();
        let toolchain = self.toolchain(&recipe.build.toolchain).map_err(|e| match e {
            RecipeError::MissingFile { .. } => RecipeError::UnknownToolchain {
                recipe: name.to_string(),
                name: recipe.build.toolchain.clone(),
            },
            other => other,
        })?;
        Ok(RecipeText { recipe, script, toolchain })
    }

    /// The toolchain `name`.
    pub fn toolchain(&self, name: &str) -> Result<Toolchain, RecipeError> {
        Toolchain::parse(name, self.text(&format!("toolchains/{name}.toml"))?)
    }

    /// The lock of a toolchain.
    pub fn toolchain_lock(&self, toolchain: &Toolchain) -> Result<ToolchainLock, RecipeError> {
        let what = format!("toolchain {}", toolchain.name);
        ToolchainLock::parse(toolchain, self.lock(&format!("toolchains/{}.lock", toolchain.name), &what)?)
    }

    /// The lock of a recipe.
    pub fn recipe_lock(&self, recipe: &Recipe, toolchain: &ToolchainLock) -> Result<RecipeLock, RecipeError> {
        let path = format!("{}/recipe.lock", recipe.name);
        let tag = matches!(recipe.source, SourceTable::Git { .. });
        if tag && recipe.input.is_empty() && !self.files.contains_key(&path) {
            // The tag's signature pins the source, so there is nothing to lock.
            return Ok(RecipeLock::new(recipe, toolchain.digest(), Vec::new(), Vec::new()));
        }
        RecipeLock::parse(recipe, &toolchain.digest(), self.lock(&path, &format!("recipe {}", recipe.name))?)
    }

    /// The versions that a recipe's lock names, even if the lock is stale: `lock` locks these versions again.
    pub fn locked_versions(&self, recipe: &Recipe) -> Vec<String> {
        let text = self.text(&format!("{}/recipe.lock", recipe.name)).unwrap_or_default();
        RecipeLock::versions(text)
    }

    fn text(&self, path: &str) -> Result<&str, RecipeError> {
        self.files
            .get(path)
            .map(String::as_str)
            .ok_or_else(|| RecipeError::MissingFile { path: path.to_owned() })
    }

    fn lock(&self, path: &str, what: &str) -> Result<&str, RecipeError> {
        self.text(path).map_err(|_| RecipeError::NotLocked { path: path.to_owned(), what: what.to_owned() })
    }
}

/// The paths of the files of each recipe and toolchain, by names such as `recipe bitcoin`.
fn units(files: &BTreeMap<String, String>) -> BTreeMap<String, Vec<String>> {
    let mut units: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files.keys() {
        let unit = match path.split_once('/') {
            Some(("toolchains", file)) => {
                format!("toolchain {}", file.rsplit_once('.').map_or(file, |(name, _)| name))
            }
            Some((folder, _)) => format!("recipe {folder}"),
            None => continue,
        };
        units.entry(unit).or_default().push(path.clone());
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[(&str, &str)]) -> RecipeSet {
        RecipeSet::from_files(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())))
    }

    #[test]
    fn what_is_laid_over_takes_the_whole_place_of_its_name_and_nothing_else() {
        let mut own = set(&[
            ("a/recipe.toml", "a"),
            ("a/recipe.lock", "a"),
            ("b/recipe.toml", "b"),
            ("toolchains/t.toml", "t"),
            ("toolchains/t.lock", "t"),
            ("toolchains/u.toml", "u"),
        ]);
        let over = set(&[
            ("a/recipe.toml", "a2"),
            ("b/recipe.toml", "b"),
            ("c/recipe.toml", "c"),
            ("toolchains/t.lock", "t2"),
        ]);
        assert_eq!(own.overlay(over), ["recipe a", "toolchain t"]);
        assert_eq!(own.names(), ["a", "b", "c"]);
        assert!(!own.files.contains_key("a/recipe.lock"), "the lock was of the other recipe");
        assert_eq!(own.files["toolchains/t.lock"], "t2");
        assert_eq!(own.toolchains(), ["t", "u"]);
    }
}
