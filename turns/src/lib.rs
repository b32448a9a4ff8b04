//! A bounded number of turns, shared fairly between clients: who may do something expensive now, and who is next.
//!
//! In scope: which requests belong to one client ([`Client`]), and a queue in which no client can take all turns or
//! delay others by asking often ([`Turns`]). Out of scope: what a turn is for, and how long a caller waits for one.
//!
//! Start reading at [`Turns::take`].

mod client;
mod queue;

pub use client::Client;
pub use queue::{Turn, Turns};
