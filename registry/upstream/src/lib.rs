//! Pulls through other registries: fetches what is not here yet, checks it and stores it, so that it may be served.
//!
//! Layer: above `hab-store` and `hab-outbound`, below the registry's server, which passes on what its clients ask for.
//!
//! A repository of upstream `docker.io` is stored here as `docker.io/library/alpine`. A client may name it so in the
//! path, as podman and CRI-O do, or name the upstream in `?ns=docker.io`, as containerd does. Both mean the same
//! repository.
//!
//! In scope: which upstream a name means, and what may be pulled from it ([`Upstreams`]); the manifests, blobs,
//! referrers and tags of one of its repositories ([`Remote`]); whether pulled content must be signed (`signed`); whole
//! images that are fetched before anybody asks (`sync`); and lost blobs that are fetched again (`mend`). Out of scope:
//! clients, their accounts and HTTP answers, which are the server's; which hosts may be asked, which `hab_outbound`
//! decides; and which keys count: signatures are gathered here, and a [`ImageJudge`] that the program gives says what
//! they are worth.
//!
//! `manifests` fetches a manifest, `blobs` and `download` a blob, and `referrers` the referrers of a manifest. All of
//! them ask through `client`, which knows how to authenticate (`token`, `pin`), how long to wait, and when not to ask
//! (`rest`). `memory` remembers answers meanwhile. Every problem with an upstream is a [`Failure`], and a caller gets
//! an [`Error`].
//!
//! Start reading at [`Upstreams::find`] and [`Remote::manifest`].

mod blobs;
mod client;
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
pub use judge::{ImageJudge, Signature};
pub use limits::UpstreamLimits;
pub use remote::Remote;
pub use sync::{Change, PlatformName, Selection, SelectionError, SyncError, SyncRule, Synced};
pub use upstreams::Upstreams;
