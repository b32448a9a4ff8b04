//! Attacks, one file for each kind of attacker. Every test's name says what happens instead.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../harness/mod.rs"]
mod harness;

mod archives;
mod clients;
mod clients_load;
mod data;
mod git;
mod outputs;
mod recipes;
mod upstreams;
mod view;
