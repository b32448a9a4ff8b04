//! Signatures, certificates, policies and histories, judged as a caller of the crate does.
#![allow(clippy::unwrap_used, missing_docs)]

mod again;
mod archive;
mod attestations;
mod blocks;
mod certificates;
mod chain;
mod corpus;
mod history;
mod lifetimes;
mod ssh;
mod sums;
mod tag;
mod traps;
mod unjudgeable;
mod world;
