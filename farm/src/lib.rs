//! The conductor: calls each room of the house in turn.
//!
//! Layer: above every room, below the program. In scope: the order of steps (a tag is mirrored, then judged, then
//! built, then published), what is remembered between the steps, and what runs by itself while the farm serves. Out of
//! scope: words for a terminal, and every room's own work. `hab-keys` decides who is believed, and
//! `hab_keys::precedent` decides what an earlier decision means for a later one.
//!
//! A [`Farm`] is opened once and hands out rooms, each with what it uses:
//!
//! | room | for |
//! |---|---|
//! | [`trust`] | policies, certificates, decisions, what was accepted before |
//! | [`mirrors`] | git projects: the list of them, their syncs, and views of what is accepted |
//! | [`source`] | from a recipe's source to verified bytes: Debian, crates, tags, releases, depends, locks |
//! | [`build`] | from a request to a published image |
//! | [`images`] | the registry's images: tags, collection, scrub, layouts, other registries |
//! | [`carry`] | export of the mirror to a place without a network, and import there |
//! | [`service`] | what runs by itself while the farm serves |
//!
//! Start at [`build`], which shows the whole flow.

mod backoff;
mod bridge;
pub mod build;
pub mod carry;
mod error;
mod facts;
mod farm;
mod fetching;
mod folder;
pub mod images;
mod keep;
pub mod mirrors;
mod overlay;
mod progress;
mod progress_reader;
pub mod service;
pub mod source;
pub mod trust;
mod words;

pub use bridge::Bridge;
pub use error::{FarmError, Fault};
pub use farm::{Farm, Options};
pub use hab_chain::chain;
pub use progress::{Notes, Progress};
pub use words::{counted, near};
