//! The interfaces that the mirror needs from its caller: storage for bytes, and an observer of its progress.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hab_oci::Digest;

/// Stores mirrored bytes by digest; verifies them as they arrive.
pub trait Keep: Send + Sync {
    /// The stored bytes with this digest, if they are here.
    fn open(&self, digest: &Digest) -> Result<Option<File>, KeepError>;

    /// Stores everything that `reader` yields. If `expected` is given and the bytes do not match it, refuses them and
    /// stores nothing. Returns the digest and the size in bytes.
    fn take(&self, expected: Option<&Digest>, reader: &mut dyn Read) -> Result<(Digest, u64), KeepError>;

    /// Records that the upstream document `name` is these bytes now. Facts are only ever added.
    fn remember(&self, kind: &str, name: &str, digest: &Digest, size: u64) -> Result<(), KeepError>;

    /// The digest of the newest bytes that `name` stood for.
    fn latest(&self, kind: &str, name: &str) -> Result<Option<Digest>, KeepError>;

    /// Every name of `kind`, in order, with the newest bytes that it stood for.
    fn names(&self, kind: &str) -> Result<Vec<NamedBlob>, KeepError>;

    /// The names in [`Keep::names`] that begin with `prefix`.
    fn names_below(&self, kind: &str, prefix: &str) -> Result<Vec<NamedBlob>, KeepError> {
        let mut names = self.names(kind)?;
        names.retain(|kept| kept.name.starts_with(prefix));
        Ok(names)
    }

    /// The file with the stored bytes of this digest, if they are here: complete, and never changed.
    fn path(&self, digest: &Digest) -> Result<Option<PathBuf>, KeepError>;

    /// A folder for partly fetched files on the same disk; it survives restarts, and may be emptied at any time.
    fn partial(&self) -> &Path;
}

/// A name, and the bytes that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedBlob {
    /// The name, unique within its kind.
    pub name: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// Their size.
    pub size: u64,
    /// The time at which they were first seen under this name, in Unix seconds.
    pub first_seen: i64,
}

/// Why bytes were not stored.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The bytes do not match the digest.
    #[error("expected {expected}, got {actual}")]
    WrongDigest {
        /// The digest that was expected.
        expected: Digest,
        /// The digest of the bytes that came.
        actual: Digest,
    },
    /// The store failed: a full disk, a broken catalog.
    #[error("the store could not keep it")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Receives progress and notes, and may ask to stop.
pub trait Observer: Send + Sync {
    /// `done` of `total` bytes of `what` have arrived.
    fn fetching(&self, what: &str, done: u64, total: Option<u64>);
    /// `done` of `total` items of `what` are done; `unit` names the items, such as "objects".
    fn counting(&self, _what: &str, _done: u64, _total: u64, _unit: &str) {}
    /// A sentence that a person should read.
    fn note(&self, text: &str);
    /// Whether to stop as soon as possible.
    fn cancelled(&self) -> bool;
}
