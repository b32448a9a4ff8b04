//! The host's apt: its configured archives, and its resolver. Only `hab-build lock` runs the resolver.

mod config;
mod resolve;

pub use config::AptConfig;
pub use resolve::{Resolved, Resolver};
