//! What can go wrong with blobs, and whose fault it is.

use std::io;
use std::path::{Path, PathBuf};

use hab_oci::Digest;

use crate::id::UploadId;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller gave something that cannot be kept.
    Input,
    /// The store, its disk or its database failed.
    Ours,
}

/// Why bytes were not kept or not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes do not have the digest that the caller expected. Nothing was kept.
    #[error("the bytes have the digest {found}, not {expected}")]
    WrongDigest {
        /// The digest that the caller gave.
        expected: Digest,
        /// The digest of the bytes that arrived.
        found: Digest,
    },
    /// A document is larger than the limit for its kind. It was not read.
    #[error("{digest} has {size} bytes: at most {limit} are read of a document of its kind")]
    TooLarge {
        /// The document.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// No upload has this name, or the upload is finished.
    #[error("there is no upload {0}")]
    UploadUnknown(UploadId),
    /// Somebody else is writing to this upload right now.
    #[error("the upload {0} is being written by somebody else")]
    UploadBusy(UploadId),
    /// Another process or task is running a collection.
    #[error("another collection is running in this data folder; try again when it has ended")]
    Collecting,
    /// The disk or the quota is full.
    #[error("cannot {doing}: the disk or the quota is full; free some space and try again")]
    NoSpace {
        /// The operation, with its path.
        doing: String,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The file system failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The path that it failed on.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A file of the blob store does not hold what the catalog says.
    #[error("the stored bytes of {digest} are damaged or gone")]
    Damaged {
        /// What the file should hold.
        digest: Digest,
    },
}

impl Error {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::WrongDigest { .. }
            | Self::TooLarge { .. }
            | Self::UploadUnknown(_)
            | Self::UploadBusy(_) => Fault::Input,
            Self::Collecting | Self::NoSpace { .. } | Self::Io { .. } | Self::Damaged { .. } => Fault::Ours,
        }
    }

    /// An input or output error, told apart from a full disk.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { doing: format!("{doing} {}", path.display()), source }
            }
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }
}
