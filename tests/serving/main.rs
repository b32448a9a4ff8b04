//! The registry and what clients, upstreams and hosts have of it.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../harness/mod.rs"]
mod harness;

mod access;
mod cluster;
mod front;
mod kills;
mod layout;
mod layout_clients;
mod registry;
mod serve;
mod upstreams;
