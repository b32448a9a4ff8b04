//! Mirrors upstreams: files by digest, Debian archives, crates and git repositories.
//!
//! Layer: the first room of the flow. It brings bytes from outside into the house and judges nothing: it returns bytes
//! with a name, never trust (that is the job of `hab-keys`). A fetched file must match a digest; a document without one
//! has a size limit and is passed on as unverified. Every fetch has a time limit, resumes where it broke off, and tries
//! the next upstream.
//!
//! Synchronous. The caller decides where bytes are stored, through [`Keep`].
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
mod fault;
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
pub use error::{Failed, MirrorError};
pub use fault::Fault;
pub use fetch::{FetchLimits, Fetcher, FileToFetch, Size};
pub use keep::{Keep, KeepError, NamedBlob, Observer};
