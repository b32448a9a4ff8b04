//! Other registries, pulled through: what is not here yet is fetched, checked, kept in the store, and may be served
//! then.
//!
//! Layer: above `hab-store` and `hab-outbound`, below the registry's server, which asks for what its clients ask for.
//!
//! A repository of upstream `docker.io` is kept here as `docker.io/library/alpine`. A client may name it so in the
//! path, as podman and CRI-O do, or leave the upstream to `?ns=docker.io`, as containerd does; both are one repository.
//!
//! In scope: which upstream a name means and what of it may be pulled ([`Upstreams`]), a manifest, a blob, what refers
//! to a manifest, and tags of one of its repositories ([`Remote`]), whether what is pulled has to be signed (`signed`),
//! whole images that are brought here before anybody asks (`sync`), and what the disk lost (`mend`). Out of scope:
//! clients, their accounts and HTTP answers, which are the server's; which hosts may be asked, which `hab_outbound`
//! decides; and which keys count: signatures are gathered here, and a [`Judge`] that the program gives says what they
//! are worth.
//!
//! A manifest comes by `manifests`, a blob by `blobs` and `download`, what is said about a manifest by `referrers`. All
//! of them ask through `client`, which knows how (`token`, `pin`), for how long, and when not to (`rest`). What is
//! remembered meanwhile is in `memory`. Whatever goes wrong with an upstream is a [`Failure`], and what a caller gets
//! is an [`Error`].
//!
//! Start reading at [`Upstreams::find`] and [`Remote::manifest`].

mod blobs;
mod blocking;
mod client;
mod clock;
mod config;
mod count;
mod download;
mod error;
mod failure;
mod freshness;
mod hub;
mod judge;
mod limits;
mod manifests;
mod memory;
mod mend;
mod pages;
#[doc(hidden)]
pub mod parsers;
mod pin;
mod referrers;
mod remote;
mod rest;
mod signed;
mod sync;
mod tags;
mod token;
mod tokens;
mod upstreams;

pub use blobs::Arriving;
pub use config::{Patience, Revalidate, Signed, UpstreamConfig};
pub use count::Count;
pub use download::Download;
pub use error::Error;
pub use failure::{Failure, Why};
pub use freshness::Freshness;
pub use judge::{Judge, Signature};
pub use limits::Limits;
pub use remote::Remote;
pub use sync::{Change, PlatformName, Selection, SelectionError, SyncError, SyncRule, Synced};
pub use upstreams::Upstreams;
