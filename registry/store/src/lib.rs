//! Everything the house keeps: bytes named by their digest, and a transactional catalog of what points at what.
//!
//! Layer: above `hab-oci`, below the registry and the program. [`Blobs`] is synchronous and knows only bytes;
//! [`Catalog`] is asynchronous and knows only facts; [`Store::publish`] is where the two meet, and the only way a
//! manifest or a tag comes to exist. Several processes may have one data folder open at the same time.
//!
//! The order that makes a crash harmless: bytes are hashed while they are written to a temporary name, synced,
//! renamed to their digest, the folder synced; only then does one transaction of the catalog mention them. What the
//! catalog does not mention is not served.
//!
//! Start reading at [`Store`], then [`Blobs`] and [`Catalog`].

mod batch;
mod blobs;
mod catalog;
mod collect;
mod configurations;
mod error;
mod expected;
mod halves;
mod journal;
mod open;
mod pattern;
mod pulls;
mod rebuild;
mod rules;
mod scrub;
mod store;
mod strays;
mod units;

pub use blobs::{Blob, BlobWriter, Blobs, Mark, Upload, UploadId, UploadIdError};
pub use catalog::{
    Back, Catalog, ManifestRecord, Mirrored, Referrer, RepositoryRow, TagMove, TagRow, Totals, Version,
};
pub use collect::{Collected, Collection};
pub use error::{Error, Fault};
pub use expected::{Expected, Named};
pub use halves::Mismatch;
pub use pattern::{Pattern, PatternError};
pub use pulls::Pulls;
pub use rebuild::{Accepted, Rebuild, Rebuilt, Status, accept};
pub use rules::{Retain, Tags};
pub use scrub::{Mender, Mending, Scrub, Scrubbed};
pub use store::{Gaps, NewManifest, Publication, Store};
pub use strays::Stray;
pub use units::{AmountError, Bytes, Span};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// 128 random bits as 32 hexadecimal digits: for names that nobody can guess, and that never come twice.
pub(crate) fn random_hex() -> Result<String> {
    let mut bits = [0; 16];
    rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::io("read", "the system's random numbers".as_ref())(e.into()))?;
    Ok(hex::encode(bits))
}

/// Now, in unix seconds.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
