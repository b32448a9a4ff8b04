//! Who signed, and where their certificates come from.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../harness/mod.rs"]
mod harness;

mod certificates;
mod directories;
mod signers;
mod verify;
