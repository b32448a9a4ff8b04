use std::io;
use std::path::PathBuf;

use crate::{InvalidName, RecipeName};

/// Why a recipe, a toolchain or a lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// There is no recipe of that name.
    #[error("there is no recipe {name}; there are: {known}")]
    UnknownRecipe {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// There is no toolchain of that name.
    #[error("recipe {recipe} asks for toolchain {name}, which is not in recipes/toolchains")]
    UnknownToolchain {
        /// Who asks.
        recipe: String,
        /// For what.
        name: String,
    },
    /// The lock has no such version.
    #[error("recipe {recipe} is not locked for version {version}; its lock has: {known}. {advice}")]
    UnknownVersion {
        /// The recipe.
        recipe: RecipeName,
        /// What was asked for.
        version: String,
        /// What there is.
        known: String,
        /// What to do.
        advice: String,
    },
    /// A version is needed and none was given.
    #[error("recipe {recipe} is built from a tag: say which, as in `hab-build {recipe} v31.1`")]
    VersionMissing {
        /// The recipe.
        recipe: RecipeName,
    },
    /// Something that is not a version.
    #[error("{0:?} is not a version: letters, digits and . _ + ~ : - only, at most 100, no - first")]
    Version(String),
    /// A name that no repository may have.
    #[error(transparent)]
    Repository(#[from] hab_oci::ReferenceError),
    /// Not TOML, or not the fields of its kind. The source says line, column and what was expected.
    #[error("{path} does not read")]
    Syntax {
        /// The file, below the recipes folder.
        path: String,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value that must not be.
    #[error("{path}: {detail}")]
    Invalid {
        /// The file, below the recipes folder.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// A recipe's folder has a name that cannot be one.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// There is no lock.
    #[error("{path} is missing; make it with `hab-build lock {what}`")]
    NotLocked {
        /// The file that is missing.
        path: String,
        /// The arguments of `lock` that make it.
        what: String,
    },
    /// The lock was made for something else than what the recipe now says.
    #[error("{path} does not match its {of}: {detail}; make it anew with `hab-build lock {what}`")]
    StaleLock {
        /// The lock.
        path: String,
        /// `recipe` or `toolchain`.
        of: &'static str,
        /// How it differs.
        detail: String,
        /// The arguments of `lock` that make it.
        what: String,
    },
    /// A file of the recipe is missing.
    #[error("{path} is missing")]
    MissingFile {
        /// Which.
        path: String,
    },
    /// A file does not read.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}
