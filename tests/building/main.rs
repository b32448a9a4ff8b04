//! Builds: recipes, their sandbox, what two runs tell, and the images that come out.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../harness/mod.rs"]
mod harness;

mod build;
mod callers;
mod image;
mod interruption;
mod locks;
mod real;
mod refusals;
mod traps;
mod trials;
