//! The distribution specification, spoken over real connections.
#![allow(clippy::unwrap_used, clippy::format_push_string, missing_docs)]

#[path = "../harness/mod.rs"]
mod harness;

mod connections;
mod manifests;
mod pull;
mod push;
mod through;
mod uploads;
