//! Mirrors of git, Debian and crates, releases and depends, and what carries them to a place without a network.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../harness/mod.rs"]
mod harness;

mod airgap;
mod crates;
mod depends;
mod git;
mod interrupted;
mod mirror;
mod mirrored;
mod objects;
mod packages;
mod releases;
mod views;
