//! Copies of upstreams: files by digest, Debian archives, crates and git repositories.
//!
//! Layer: the first room of the flow. It moves bytes from outside into the house and judges nothing: what it returns
//! are bytes with a name, never trust (that is `hab-keys`). A fetch has a digest to meet, or is bounded in size and
//! handed on as an unverified document; it has a time limit, resumes where it broke off, and tries the next upstream.
//!
//! Synchronous. Where the bytes are kept is the caller's business, through [`Keep`].
//!
//! Start reading at [`Fetcher`], then [`debian`], [`crates`], [`git`], [`depends`] and [`release`].

mod address;
pub mod airgap;
pub mod apt;
pub mod cargo_lock;
pub mod crates;
pub mod debian;
pub mod depends;
mod error;
mod fetch;
pub mod git;
mod hint;
mod http;
mod keep;
pub mod kinds;
mod partial;
pub mod projects;
pub mod release;
mod transfer;

pub use address::{Address, Outside};
pub use error::{Failed, Fault, MirrorError};
pub use fetch::{Fetcher, Limits, Size, Wanted};
pub use keep::{Keep, KeepError, Kept, Observer};
