//! Plan, run, run again, compare, assemble: from a verified source to an image.
//!
//! Layer: takes `VerifiedSource`s from `hab-keys` and a `Plan` from `hab-recipe`, runs the script in `hab-sandbox`, and
//! leaves layers and manifests from `hab-image` in the blob store. It publishes nothing. Synchronous.
//!
//! Start reading at [`Workshop::build`]; `run` is one run, [`compare`] says where two differ, `assemble` makes the
//! image, `smoke` tries it. Outputs of a build are read only in a separate process: `check` asks, and [`worker`]
//! answers. [`unpack`] makes files of archives from outside.

mod assemble;
mod base;
mod build;
mod cause;
mod check;
pub mod compare;
mod error;
mod log;
mod observer;
mod private;
mod roots;
mod run;
mod smoke;
pub mod unpack;
mod worker;
mod workshop;

pub use assemble::annotations;
pub use build::{Finished, FinishedLayer, Inputs, Runs, Smoke, Trials};
pub use cause::Cause;
pub use error::{BuildError, FailedScript, Fault};
pub use observer::Observer;
pub use roots::Root;
pub use worker::worker;
pub use workshop::Workshop;
