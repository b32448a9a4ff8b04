//! A bounded number of turns, shared fairly between clients: who may run an expensive thing now, and who is next.
//!
//! In scope: which requests belong to one client ([`Client`]), and a queue in which no client can hold all turns or delay
//! the others by asking often ([`Turns`]). Out of scope: what a turn is for, and for how long somebody waits for one.
//!
//! Start reading at [`Turns::take`].

mod client;
mod queue;

pub use client::Client;
pub use queue::{Turn, Turns};
