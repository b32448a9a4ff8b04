//! What the mirror asks of the house around it: somewhere to keep bytes, and someone to tell.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hab_oci::Digest;

/// Where mirrored bytes are kept: content-addressed, verified while they are taken.
pub trait Keep: Send + Sync {
    /// The kept bytes with this digest, if they are here.
    fn open(&self, digest: &Digest) -> Result<Option<File>, KeepError>;

    /// Takes everything `reader` yields. With `expected`, other bytes are refused and nothing is kept.
    /// Returns the digest and the size in bytes.
    fn take(&self, expected: Option<&Digest>, reader: &mut dyn Read) -> Result<(Digest, u64), KeepError>;

    /// Records that the upstream document `name` was these bytes now. Facts are only ever added.
    fn remember(&self, kind: &str, name: &str, digest: &Digest, size: u64) -> Result<(), KeepError>;

    /// The newest bytes that `name` was ever seen to be.
    fn latest(&self, kind: &str, name: &str) -> Result<Option<Digest>, KeepError>;

    /// Every name of `kind`, by name, with the newest bytes that it was ever seen to be.
    fn names(&self, kind: &str) -> Result<Vec<Kept>, KeepError>;

    /// Of [`Keep::names`], those that begin with `prefix`.
    fn names_below(&self, kind: &str, prefix: &str) -> Result<Vec<Kept>, KeepError> {
        let mut names = self.names(kind)?;
        names.retain(|kept| kept.name.starts_with(prefix));
        Ok(names)
    }

    /// Where the kept bytes with this digest lie, if they are here: whole, and never changed.
    fn path(&self, digest: &Digest) -> Result<Option<PathBuf>, KeepError>;

    /// A folder for half-fetched files, on the same disk; survives restarts, may be emptied at any time.
    fn partial(&self) -> &Path;
}

/// A name and the bytes it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The name, unique within its kind.
    pub name: String,
    /// Which bytes.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// When they were first seen under this name, in unix seconds.
    pub first_seen: i64,
}

/// Why bytes were not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The bytes are not the ones that were asked for.
    #[error("expected {expected}, got {actual}")]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The store could not do it: a full disk, a broken catalog.
    #[error("the store could not keep it")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Someone who is told what happens, and may ask to stop.
pub trait Observer: Send + Sync {
    /// `done` of `total` bytes of `what` are here.
    fn fetching(&self, what: &str, done: u64, total: Option<u64>);
    /// `done` of `total` things of `what` are done; `unit` names them, such as "objects".
    fn counting(&self, _what: &str, _done: u64, _total: u64, _unit: &str) {}
    /// Something a person should know, in one sentence.
    fn note(&self, text: &str);
    /// Whether to give up as soon as possible.
    fn cancelled(&self) -> bool;
}
