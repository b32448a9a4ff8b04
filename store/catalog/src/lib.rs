//! The store: a transactional catalog of facts about blobs (what points at what), and the bytes of `hab-blobs`.
//!
//! Layer: above `hab-blobs`, below the registry and the farm. [`Blobs`] is synchronous and knows only bytes;
//! [`Catalog`] is asynchronous and knows only facts; [`Store::publish`] is where the two meet, and the only way a
//! manifest or a tag comes to exist. Several processes may have one data folder open at the same time.
//!
//! The order of writing makes a crash harmless: a blob is whole and on disk before a transaction of the catalog
//! mentions it. Blobs that the catalog does not mention are not served.
//!
//! Start reading at [`Store`], then [`Blobs`] and [`Catalog`].

mod batch;
mod blocking;
mod catalog;
mod collect;
mod configurations;
mod error;
mod expected;
mod halves;
mod journal;
mod open;
mod pattern;
mod publication;
mod pulls;
mod rebuild;
mod rules;
mod scrub;
mod store;
mod strays;
mod tags;
mod units;

pub use blocking::blocking;
pub use catalog::{
    Back, Catalog, ManifestRecord, Mirrored, Referrer, RepositoryRow, TagMove, TagRow, Totals, Version,
};
pub use collect::{Collected, Collection};
pub use error::{Error, Result};
pub use expected::{Expected, Named};
pub use hab_blobs::{Blob, BlobWriter, Blobs, Fault, Mark, Stray, Upload, UploadId, UploadIdError};
pub use halves::Mismatch;
pub use pattern::{Pattern, PatternError};
pub use publication::{Gaps, NewManifest, Publication};
pub use pulls::Pulls;
pub use rebuild::{Accepted, Rebuild, Rebuilt, Status, accept};
pub use rules::Retain;
pub use scrub::{Mender, Mending, Scrub, Scrubbed};
pub use store::Store;
pub use tags::Tags;
pub use units::{AmountError, Bytes, Span};
