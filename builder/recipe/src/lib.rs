//! How to turn a verified source into files, and which files make the image: `recipe.toml` and its lock to a plan.
//!
//! Layer: pure. It reads the recipe files it is given and nothing else; no network, no clock, no async. Everything a
//! build depends on is in the [`Plan`], and the plan's digest is the build's identity.
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
