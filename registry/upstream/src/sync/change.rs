//! What a sync did, or would do.

use std::error::Error as StdError;
use std::fmt;

use hab_oci::{Digest, RepositoryName, Tag};

use crate::error::Error;

/// What a sync did with a tag.
#[derive(Debug)]
pub enum Change {
    /// The tag did not move.
    Same(Digest),
    /// The tag is new here.
    New(Digest),
    /// The tag moved.
    Moved {
        /// Its digest before.
        from: Digest,
        /// Its digest now.
        to: Digest,
    },
    /// The sync failed: the tag did not move, or is still not here.
    Failed(SyncError),
}

/// What a sync did, or would do.
#[derive(Debug)]
pub struct Synced {
    /// The repository here.
    pub repository: RepositoryName,
    /// How many tags the upstream has.
    pub listed: usize,
    /// The selected tags, the newest first.
    pub tags: Vec<(Tag, Change)>,
    /// How many bytes of blobs were fetched.
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
    /// Whether the upstream did not answer, does not have it, or sent something else.
    pub fn is_upstream(&self) -> bool {
        use Error::{BlobUnknown, Failed, ManifestUnknown, NameUnknown};
        matches!(self.0, Failed { .. } | ManifestUnknown { .. } | BlobUnknown { .. } | NameUnknown(_))
    }

    /// Whether a rule of the operator forbids it.
    pub fn is_refusal(&self) -> bool {
        use Error::{NotAllowed, NotSigned, Store};
        matches!(self.0, NotAllowed(_) | NotSigned { .. } | Store(hab_store::Error::Immutable { .. }))
    }
}

/// The change of a tag from `from`, if it was here, to `to`.
pub(super) fn changed(from: Option<Digest>, to: Digest) -> Change {
    match from {
        None => Change::New(to),
        Some(from) if from == to => Change::Same(to),
        Some(from) => Change::Moved { from, to },
    }
}
