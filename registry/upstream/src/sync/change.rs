//! What a sync did, or would do.

use std::error::Error as StdError;
use std::fmt;

use hab_oci::{Digest, RepositoryName, Tag};

use crate::error::Error;

/// What became of a tag.
#[derive(Debug)]
pub enum Change {
    /// It is what it was.
    Same(Digest),
    /// It is new here.
    New(Digest),
    /// It was something else.
    Moved {
        /// What it was.
        from: Digest,
        /// What it is now.
        to: Digest,
    },
    /// It is here as it was, or not at all.
    Failed(SyncError),
}

/// What a sync did, or would do.
#[derive(Debug)]
pub struct Synced {
    /// The repository here.
    pub repository: RepositoryName,
    /// How many tags upstream has.
    pub listed: usize,
    /// Those that were selected, the newest first.
    pub tags: Vec<(Tag, Change)>,
    /// How many bytes of blobs came.
    pub bytes: u64,
}

/// Why something was not synced.
#[derive(Debug)]
pub struct SyncError(pub(super) Error);

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.sentence())
    }
}

impl StdError for SyncError {}

impl SyncError {
    /// The upstream did not answer, does not have it, or sent something else.
    pub fn is_upstream(&self) -> bool {
        use Error::{BlobUnknown, Failed, ManifestUnknown, NameUnknown};
        matches!(self.0, Failed { .. } | ManifestUnknown { .. } | BlobUnknown { .. } | NameUnknown(_))
    }

    /// What the operator wants forbids it.
    pub fn is_refusal(&self) -> bool {
        use Error::{NotAllowed, NotSigned, Store};
        matches!(self.0, NotAllowed(_) | NotSigned { .. } | Store(hab_store::Error::Immutable { .. }))
    }
}

/// What became of a tag that was `from`, if it was here, and is `to`.
pub(super) fn changed(from: Option<Digest>, to: Digest) -> Change {
    match from {
        None => Change::New(to),
        Some(from) if from == to => Change::Same(to),
        Some(from) => Change::Moved { from, to },
    }
}
