//! Makes a [`Plan`] from a `recipe.toml` and its lock: how a verified source becomes files, and which files make the
//! image.
//!
//! Layer: pure. The crate reads the recipe files it is given and nothing else: no network, no clock, no async. The
//! [`Plan`] holds everything a build depends on, and the plan's digest is the build's identity.
//!
//! Start reading at [`RecipeSet`], then [`Recipe`] and [`Toolchain`] (what a person writes), [`RecipeLock`] and
//! [`ToolchainLock`] (what `hab-build lock` writes), and [`Plan`].

mod error;
mod lock;
mod name;
mod plan;
mod recipe;
mod set;
mod toolchain;

pub use error::RecipeError;
pub use lock::{LockedFile, LockedFiles, LockedPackage, LockedSource, RecipeLock, ToolchainLock};
pub use name::{InvalidName, RecipeName};
pub use plan::{PLAN_SCHEMA, Plan, PlannedSource, TOOLCHAIN, UNSIGNED, check_version};
pub use recipe::{BuildTable, Compression, ImageTable, InputTable, Recipe, SmokeTable, SourceTable};
pub use set::{RecipeSet, RecipeText};
pub use toolchain::{BaseTable, CertificatesTable, LinkTable, SysrootTable, Toolchain};
