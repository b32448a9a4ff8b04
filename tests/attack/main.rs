//! What an attacker tried, one file for each who might: every test says what happens instead.
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
