use std::io;
use std::path::PathBuf;

use crate::{InvalidName, RecipeName};

/// Why a recipe, a toolchain or a lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The recipe set has no recipe of this name.
    #[error("there is no recipe {name}; there are: {known}")]
    UnknownRecipe {
        /// The name that was asked for.
        name: String,
        /// The names of all recipes, separated by commas.
        known: String,
    },
    /// The recipe set has no toolchain of this name.
    #[error("recipe {recipe} asks for toolchain {name}, which is not in recipes/toolchains")]
    UnknownToolchain {
        /// The recipe that names the toolchain.
        recipe: String,
        /// The toolchain's name.
        name: String,
    },
    /// The recipe's lock does not have this version.
    #[error("recipe {recipe} is not locked for version {version}; its lock has: {known}. {advice}")]
    UnknownVersion {
        /// The recipe.
        recipe: RecipeName,
        /// The version that was asked for.
        version: String,
        /// The versions that the lock has, separated by commas.
        known: String,
        /// How to add the version to the lock.
        advice: String,
    },
    /// The recipe is built from a git tag, and the caller gave no version.
    #[error("recipe {recipe} is built from a tag: say which, as in `hab-build {recipe} v31.1`")]
    VersionMissing {
        /// The recipe.
        recipe: RecipeName,
    },
    /// The text is not a valid version.
    #[error("{0:?} is not a version: use 1 to 100 letters, digits and . _ + ~ : -, and no - at the start")]
    Version(String),
    /// The repository's name is not valid.
    #[error(transparent)]
    Repository(#[from] hab_oci::ReferenceError),
    /// The file is not TOML, or does not have the fields of its kind. The source says line, column and what was
    /// expected.
    #[error("cannot parse {path}")]
    Syntax {
        /// The file, below the recipes folder.
        path: String,
        /// The parser's error, with line and column.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A field has a value that is not allowed.
    #[error("{path}: {detail}")]
    Invalid {
        /// The file, below the recipes folder.
        path: String,
        /// What is wrong with the value.
        detail: String,
    },
    /// The name of a recipe's folder is not a valid recipe name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The lock's file is missing.
    #[error("{path} is missing; make it with `hab-build lock {what}`")]
    NotLocked {
        /// The file that is missing.
        path: String,
        /// The arguments of `lock` that make it.
        what: String,
    },
    /// The lock was made for an earlier state of its recipe or toolchain.
    #[error("{path} does not match its {of}: {detail}; make it anew with `hab-build lock {what}`")]
    StaleLock {
        /// The lock.
        path: String,
        /// What the lock belongs to: `recipe` or `toolchain`.
        of: &'static str,
        /// How the lock differs from what it belongs to.
        detail: String,
        /// The arguments of `lock` that make the lock again.
        what: String,
    },
    /// A file of the recipe is missing.
    #[error("{path} is missing")]
    MissingFile {
        /// The file's path, below the recipes folder.
        path: String,
    },
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The path of the file or folder.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
}
