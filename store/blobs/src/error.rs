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
    /// The bytes do not have the digest that they were said to have. Nothing was kept.
    #[error("these bytes are {found}, not {expected}")]
    WrongDigest {
        /// What was said.
        expected: Digest,
        /// What arrived.
        found: Digest,
    },
    /// A document is larger than any of its kind may be. It was not read.
    #[error("{digest} has {size} bytes: at most {limit} are read of a document of its kind")]
    TooLarge {
        /// The document.
        digest: Digest,
        /// What it has.
        size: u64,
        /// How much is read.
        limit: u64,
    },
    /// There is no such upload, or it is finished.
    #[error("there is no upload {0}")]
    UploadUnknown(UploadId),
    /// Somebody else is writing to this upload right now.
    #[error("the upload {0} is being written by somebody else")]
    UploadBusy(UploadId),
    /// Another process or task collects at the moment.
    #[error("another collection is running in this data folder; try again when it has ended")]
    Collecting,
    /// The disk or the quota is full.
    #[error("cannot {doing}: the disk or the quota is full; free some space and try again")]
    NoSpace {
        /// What was being done, with the path.
        doing: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The file system failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which path.
        path: PathBuf,
        /// The system's words.
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
