//! What can go wrong with the store, and whose fault it is.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use hab_oci::{Digest, EdgeKind, OutlineError, RepositoryName, Tag};

use hab_blobs::{Error as BlobError, Fault, UploadId};

use crate::Mismatch;

/// Why the store did not do it.
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
    /// Content has another size than a descriptor says.
    #[error("{digest} has {found} bytes, not {expected}")]
    WrongSize {
        /// The content.
        digest: Digest,
        /// What a descriptor says.
        expected: u64,
        /// What it has.
        found: u64,
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
    /// A manifest points at content that its repository does not hold.
    #[error("{wanted_by} needs the {} {digest}, which {repository} does not hold", kind.name())]
    Missing {
        /// The repository.
        repository: RepositoryName,
        /// What is not there.
        digest: Digest,
        /// As what it is needed.
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
    /// Bytes that were to be a manifest are not one.
    #[error("{digest} is not a manifest")]
    Manifest {
        /// The bytes' digest.
        digest: Digest,
        /// Why not.
        #[source]
        source: OutlineError,
    },
    /// The configuration of an image that two runtimes could read in two ways.
    #[error("{digest}, the configuration of {of}, cannot be read, or not in one way only")]
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
    /// A tag that has to stay where it is would move or go.
    #[error("{repository}:{tag} is immutable: it stays at {at}")]
    Immutable {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// Where it is.
        at: Digest,
    },
    /// What is at a tag, or whether a manifest is there, is not what whoever wanted to change it expected.
    #[error("{repository} has {} at {reference}, which is not what was expected", said(found.as_ref()))]
    Unexpected {
        /// The repository.
        repository: RepositoryName,
        /// The tag, or the manifest's digest.
        reference: String,
        /// What is there.
        found: Option<Digest>,
    },
    /// A tag never was where it is to go back to.
    #[error("{repository}:{tag} was never {wanted}; its history says where it was")]
    NeverThere {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// Where, in words.
        wanted: String,
    },
    /// A tag cannot go back to a manifest that its repository does not hold any more.
    #[error("{repository}:{tag} cannot go back to {digest}: {repository} does not hold it any more")]
    NotHeld {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// The manifest.
        digest: Digest,
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
        /// The system's or the database's words.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
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
    /// The catalog and the blobs of a data folder do not belong together.
    #[error("cannot use {}: {mismatch}", data.display())]
    Mismatch {
        /// The data folder.
        data: PathBuf,
        /// How not.
        mismatch: Mismatch,
    },
    /// The data folder is open in another process, and has to be ours alone.
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
    /// A copy of the catalog that a person named is none.
    #[error("{} cannot be used as a copy of the catalog: {why}", path.display())]
    NoCopy {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A copy of the catalog was made and cannot be used.
    #[error("the copy that was made of the catalog cannot be used: {why}")]
    Copy {
        /// Why not.
        why: String,
    },
    /// A later version of this program has written the catalog.
    #[error(
        "{} was written by a later version (its schema is {found}, this program knows {known}): use that version, or another data folder",
        path.display()
    )]
    Newer {
        /// The catalog.
        path: PathBuf,
        /// The newest migration within it that this program does not know.
        found: i64,
        /// The newest migration that this program knows.
        known: i64,
    },
    /// The catalog cannot be brought to this version's schema.
    #[error("cannot bring {} to this version's schema", path.display())]
    Migrate {
        /// The catalog.
        path: PathBuf,
        /// The migrator's words.
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// The database failed.
    #[error("the catalog could not {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The database's words.
        #[source]
        source: sqlx::Error,
    },
    /// The catalog holds a value that this program never writes.
    #[error("the catalog holds {value:?} where a {what} has to be")]
    Nonsense {
        /// What was expected.
        what: &'static str,
        /// What is there.
        value: String,
    },
    /// A worker of ours ended without an answer.
    #[error("a worker of the store ended early")]
    Worker(#[source] tokio::task::JoinError),
}

/// What went wrong with blobs is as wrong with the store.
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

    /// What a person can do about it, in a sentence of its own.
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

    /// Whether the catalog's file is not the database that it was.
    pub fn is_catalog_damage(&self) -> bool {
        // SQLite's primary result codes: corrupt, and not a database. The extended ones have them in their low byte.
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

    /// The same error with the catalog's path, if it says that the catalog is damaged.
    pub(crate) fn in_catalog(self, path: &Path) -> Self {
        match self {
            Self::CatalogDamaged { .. } | Self::Nonsense { .. } => self,
            _ if self.is_catalog_damage() => {
                Self::CatalogDamaged { path: path.to_owned(), source: Box::new(self) }
            }
            _ => self,
        }
    }

    /// It and what caused it, in one sentence.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
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
