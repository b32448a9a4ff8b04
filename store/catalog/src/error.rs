//! What can go wrong with the store, and whose fault it is.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use hab_oci::{Digest, EdgeKind, OutlineError, RepositoryName, Tag};

use hab_blobs::{Error as BlobError, Fault, UploadId};

use crate::Mismatch;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation of the store failed.
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
    /// The size of some content differs from its descriptor.
    #[error("{digest} has {found} bytes, not {expected}")]
    WrongSize {
        /// The content.
        digest: Digest,
        /// What a descriptor says.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// A document is larger than the limit for its kind. It was not read.
    #[error("{digest} has {size} bytes: at most {limit} are read of a document of its kind")]
    TooLarge {
        /// The document.
        digest: Digest,
        /// What it has.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A manifest points at content that its repository does not hold.
    #[error("{wanted_by} needs the {} {digest}, which {repository} does not hold", kind.name())]
    Missing {
        /// The repository.
        repository: RepositoryName,
        /// The missing content.
        digest: Digest,
        /// The kind of the edge that points at it.
        kind: EdgeKind,
        /// The manifest that points at it.
        wanted_by: Digest,
    },
    /// A publication lists a blob whose bytes are not in the blob store.
    #[error("the bytes of {digest}, to be published in {repository}, are not in the store")]
    NotStored {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
    },
    /// A publication's root is not one of its manifests.
    #[error("the root {0} is not among the manifests to be published")]
    NoRoot(Digest),
    /// The bytes are not a manifest.
    #[error("{digest} is not a manifest")]
    Manifest {
        /// The bytes' digest.
        digest: Digest,
        /// Why not.
        #[source]
        source: OutlineError,
    },
    /// The configuration of an image is malformed, or two runtimes could read it in two ways.
    #[error("the configuration {digest} of {of} is malformed or ambiguous")]
    Configuration {
        /// The configuration.
        digest: Digest,
        /// The manifest that names it.
        of: Digest,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A blob cannot be removed from a repository because a manifest there points at it.
    #[error("{digest} is part of a manifest of {repository}")]
    InUse {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
    },
    /// The operation would move or delete an immutable tag.
    #[error("{repository}:{tag} is immutable: it stays at {at}")]
    Immutable {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// Where it is.
        at: Digest,
    },
    /// A tag points elsewhere, or a manifest exists or is missing, against the condition of the request.
    #[error("{repository} has {} at {reference}, which is not what was expected", said(found.as_ref()))]
    Unexpected {
        /// The repository.
        repository: RepositoryName,
        /// The tag, or the manifest's digest.
        reference: String,
        /// What is there.
        found: Option<Digest>,
    },
    /// A rollback asks for a value that the tag never had.
    #[error("cannot roll back {repository}:{tag}: it never pointed at {wanted}; see its history")]
    NeverThere {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// The value asked for, in words.
        wanted: String,
    },
    /// A rollback asks for a manifest that the repository no longer holds.
    #[error("{repository}:{tag} cannot go back to {digest}: {repository} does not hold it any more")]
    NotHeld {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// The manifest.
        digest: Digest,
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
        /// The error of the operating system or the database.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
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
    /// The catalog and the blobs of a data folder do not belong together.
    #[error("cannot use {}: {mismatch}", data.display())]
    Mismatch {
        /// The data folder.
        data: PathBuf,
        /// How they do not fit together.
        mismatch: Mismatch,
    },
    /// Another process has the data folder open, and the operation needs it alone.
    #[error("{} is in use by another process; stop it first", data.display())]
    InUseElsewhere {
        /// The data folder.
        data: PathBuf,
    },
    /// The catalog is damaged, or no database at all.
    #[error("the catalog {} is damaged", path.display())]
    CatalogDamaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        #[source]
        source: Box<Error>,
    },
    /// A file that a person named is not a usable copy of the catalog.
    #[error("{} cannot be used as a copy of the catalog: {why}", path.display())]
    NoCopy {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A new copy of the catalog is not usable.
    #[error("cannot use the new copy of the catalog: {why}")]
    Copy {
        /// Why not.
        why: String,
    },
    /// A later version of this program wrote the catalog.
    #[error(
        "{} was written by a later version (its schema is {found}, this program knows {known}): use that version, or another data folder",
        path.display()
    )]
    Newer {
        /// The catalog.
        path: PathBuf,
        /// The newest migration in the catalog, which this program does not know.
        found: i64,
        /// The newest migration that this program knows.
        known: i64,
    },
    /// The catalog cannot be brought to this version's schema.
    #[error("cannot bring {} to this version's schema", path.display())]
    Migrate {
        /// The catalog.
        path: PathBuf,
        /// The error of the migrator.
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// The database failed.
    #[error("the catalog could not {doing}")]
    Database {
        /// The operation.
        doing: &'static str,
        /// The error of the database.
        #[source]
        source: sqlx::Error,
    },
    /// The catalog holds a value that this program never writes.
    #[error("the catalog holds {value:?} instead of a {what}")]
    Nonsense {
        /// The kind of value that belongs there.
        what: &'static str,
        /// What is there.
        value: String,
    },
    /// A thread of the store ended without a result.
    #[error("a worker of the store ended early")]
    Worker(#[source] tokio::task::JoinError),
}

/// Every error of the blobs is an error of the store.
impl From<BlobError> for Error {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::WrongDigest { expected, found } => Self::WrongDigest { expected, found },
            BlobError::TooLarge { digest, size, limit } => Self::TooLarge { digest, size, limit },
            BlobError::UploadUnknown(id) => Self::UploadUnknown(id),
            BlobError::UploadBusy(id) => Self::UploadBusy(id),
            BlobError::Collecting => Self::Collecting,
            BlobError::NoSpace { doing, source } => Self::NoSpace { doing, source: Box::new(source) },
            BlobError::Io { doing, path, source } => Self::Io { doing, path, source },
            BlobError::Damaged { digest } => Self::Damaged { digest },
        }
    }
}

impl Error {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::WrongDigest { .. }
            | Self::WrongSize { .. }
            | Self::TooLarge { .. }
            | Self::Missing { .. }
            | Self::NotStored { .. }
            | Self::NoRoot(_)
            | Self::Configuration { .. }
            | Self::Manifest { .. }
            | Self::InUse { .. }
            | Self::Immutable { .. }
            | Self::Unexpected { .. }
            | Self::NeverThere { .. }
            | Self::NotHeld { .. }
            | Self::UploadUnknown(_)
            | Self::UploadBusy(_) => Fault::Input,
            Self::Collecting
            | Self::NoSpace { .. }
            | Self::Io { .. }
            | Self::Damaged { .. }
            | Self::Mismatch { .. }
            | Self::InUseElsewhere { .. }
            | Self::CatalogDamaged { .. }
            | Self::Copy { .. }
            | Self::NoCopy { .. }
            | Self::Newer { .. }
            | Self::Migrate { .. }
            | Self::Database { .. }
            | Self::Nonsense { .. }
            | Self::Worker(_) => Fault::Ours,
        }
    }

    /// What a person can do about the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mismatch { mismatch, .. } => Some(mismatch.hint().to_owned()),
            _ if self.is_catalog_damage() => Some(
                "stop what uses the data folder, then run `hab-build store rebuild`: it makes the catalog again from its \
                 newest copy and the journal beside the blobs; the damaged file is kept"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Whether the error shows that the catalog's file is damaged.
    pub fn is_catalog_damage(&self) -> bool {
        // SQLite's primary result codes SQLITE_CORRUPT and SQLITE_NOTADB. An extended code has its primary code in the
        // low byte.
        const DAMAGED: [i64; 2] = [11, 26];
        let source = match self {
            Self::CatalogDamaged { .. }
            | Self::Nonsense { .. }
            | Self::Database { doing: "be checked", source: sqlx::Error::Protocol(_) } => return true,
            Self::Database { source, .. } => source,
            Self::Migrate { source, .. } => match source.as_ref() {
                sqlx::migrate::MigrateError::Execute(source)
                | sqlx::migrate::MigrateError::ExecuteMigration(source, _) => source,
                _ => return false,
            },
            _ => return false,
        };
        let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
        code.and_then(|code| code.parse::<i64>().ok()).is_some_and(|code| DAMAGED.contains(&(code & 0xff)))
    }

    /// Adds the catalog's path to an error that shows a damaged catalog.
    pub(crate) fn in_catalog(self, path: &Path) -> Self {
        match self {
            Self::CatalogDamaged { .. } | Self::Nonsense { .. } => self,
            _ if self.is_catalog_damage() => {
                Self::CatalogDamaged { path: path.to_owned(), source: Box::new(self) }
            }
            _ => self,
        }
    }

    /// An input or output error, told apart from a full disk.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { doing: format!("{doing} {}", path.display()), source: Box::new(source) }
            }
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }

    /// A database error, told apart from a full disk.
    pub(crate) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        // SQLite's primary result code for a full disk; PostgreSQL's is the SQLSTATE disk_full.
        const FULL: [&str; 2] = ["13", "53100"];
        move |source| {
            let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
            if code.is_some_and(|code| FULL.contains(&code.as_ref())) {
                Self::NoSpace { doing: format!("{doing} in the catalog"), source: Box::new(source) }
            } else {
                Self::Database { doing, source }
            }
        }
    }
}

fn said(found: Option<&Digest>) -> String {
    found.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}
