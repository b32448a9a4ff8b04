//! The OCI distribution API, `/v2`, over the store.
//!
//! Layer: above `hab-store`; the program listens and this crate answers. It holds no state of its own: everything
//! that it serves is in the catalog, and every byte that it serves was hashed by the store when it came in.
//!
//! A request goes: [`serve()`] accepts it, `handle` finds the endpoint in its path (`route`), asks whether the caller
//! may ([`Access`]), and gives it to the file named after the endpoint (`manifests`, `blobs`, `uploads`, `tags`,
//! `referrers`). Whatever goes wrong becomes one `Error`, which `error` alone turns into a status and a body.
//!
//! Start reading at [`router`].

mod blobs;
mod body;
mod error;
mod handle;
mod manifests;
mod multipart;
mod range;
mod referrers;
mod registry;
mod route;
mod serve;
mod stall;
mod tags;
mod uploads;
mod upstream;

pub use handle::router;
pub use registry::{Access, Limits, Registry, Rules};
pub use serve::serve;
pub use upstream::{UpstreamConfig, Upstreams};
