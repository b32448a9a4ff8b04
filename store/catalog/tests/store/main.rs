//! Tests that try to break the promises of the store.
#![allow(clippy::unwrap_used, missing_docs)]

mod catalog;
mod collect;
mod collect_load;
mod collect_shapes;
mod halves;
mod harness;
mod kills;
mod large;
mod listed;
mod model;
mod processes;
mod publish;
mod rebuild;
mod scrub;
mod tags;
mod uploads;
