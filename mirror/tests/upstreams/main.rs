//! Git upstreams that misbehave, one test each: a sentence, and every ref that was here is here still.
#![allow(clippy::unwrap_used, missing_docs)]

mod advertised;
mod content;
mod harness;
mod head;
mod healing;
mod lacking;
mod lost;
mod many;
mod room;
mod transport;
