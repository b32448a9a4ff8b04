//! What can be wrong with a layout, and whose fault it is.

use std::io;
use std::path::{Path, PathBuf};

use hab_oci::{Digest, OutlineError, Tag};

/// Whose fault an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for cannot be done with this path or layout.
    Request,
    /// The layout is not what it says.
    Layout,
    /// A disk failed, or is full.
    Ours,
}

/// Why a layout was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such path, or it is a device or a pipe.
    #[error("{} is neither a folder nor a file", path.display())]
    Neither {
        /// Which.
        path: PathBuf,
    },
    /// A folder or an archive of something else.
    #[error("{} is not an OCI layout: {why}", path.display())]
    NotALayout {
        /// Which.
        path: PathBuf,
        /// In what way.
        why: &'static str,
    },
    /// What was to be written is there already.
    #[error("{} exists already; nothing is overwritten: remove it, or choose another name", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// An archive cannot be read as one.
    #[error("{} is not a whole tar archive; {problem}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Where in it, and in what way.
        problem: hab_archive::Error,
    },
    /// What docker saved is not what it says, or there is not all of it.
    #[error("{} is not what `docker save` writes: {why}", path.display())]
    Docker {
        /// The archive.
        path: PathBuf,
        /// In what way.
        why: String,
    },
    /// A member of an archive that no layout has.
    #[error("{} has a member {member:?} {why}; a layout has only files and folders of its own, each once", path.display())]
    Member {
        /// The archive.
        path: PathBuf,
        /// Its name.
        member: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file of a folder that is a link, or is behind one, or is no file.
    #[error("{} is a link, or no file; no link of a layout is followed", path.display())]
    Link {
        /// Which.
        path: PathBuf,
    },
    /// Something is larger than it may be.
    #[error("{what} has {size} bytes: at most {limit} are read")]
    TooLarge {
        /// What.
        what: String,
        /// Its size.
        size: u64,
        /// How much there may be.
        limit: u64,
    },
    /// More of something than there may be.
    #[error("the layout has more than {limit} {what}")]
    TooMany {
        /// What, in the plural.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// Indexes within indexes within indexes.
    #[error("the index {digest} is {limit} indexes deep: no deeper one is read")]
    TooDeep {
        /// The index.
        digest: Digest,
        /// How deep there may be indexes.
        limit: usize,
    },
    /// Not JSON, or not of the shape that the specification gives.
    #[error("{what} does not read")]
    Json {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// What was said to be a manifest is none.
    #[error("{digest} is not a manifest")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// Why not.
        #[source]
        source: OutlineError,
    },
    /// Two descriptors of the same content disagree: reading it either way could be meant.
    #[error("{digest} is listed twice, with different sizes or types")]
    Disagreement {
        /// The content.
        digest: Digest,
    },
    /// A file that something points at is not there.
    #[error("{digest} is not in the layout, though {wanted_by} needs it")]
    Missing {
        /// What is not there.
        digest: Digest,
        /// A manifest's digest, or index.json.
        wanted_by: String,
    },
    /// A file has another size than its descriptor says.
    #[error("{digest} has {found} bytes in the layout, not {expected}")]
    WrongSize {
        /// The file.
        digest: Digest,
        /// What its descriptor says.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// A file's bytes are not those that its name says.
    #[error("the bytes at {expected} are {found}")]
    WrongDigest {
        /// Its name.
        expected: Digest,
        /// What they are.
        found: Digest,
    },
    /// Nothing in the layout has a tag, and none was given.
    #[error("nothing in this layout has a tag: say which tag it gets, REPOSITORY:TAG")]
    NoTag,
    /// A tag was given, and no image has it, nor is there only one.
    #[error("the layout has several images and none is tagged {wanted}: {there}")]
    NoSuchTag {
        /// What was asked for.
        wanted: Tag,
        /// What is there, in words.
        there: String,
    },
    /// One tag, several images.
    #[error("the layout tags several images {tag}, of one repository each: they cannot be one tag here")]
    TagTwice {
        /// The tag.
        tag: Tag,
    },
    /// There is nothing in it.
    #[error("the layout has no image")]
    Empty,
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
}

impl Error {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Neither { .. }
            | Self::NotALayout { .. }
            | Self::Exists { .. }
            | Self::NoTag
            | Self::NoSuchTag { .. }
            | Self::TagTwice { .. }
            | Self::Empty => Fault::Request,
            Self::Archive { .. }
            | Self::Docker { .. }
            | Self::Member { .. }
            | Self::Link { .. }
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::TooDeep { .. }
            | Self::Json { .. }
            | Self::Manifest { .. }
            | Self::Disagreement { .. }
            | Self::Missing { .. }
            | Self::WrongSize { .. }
            | Self::WrongDigest { .. } => Fault::Layout,
            Self::Io { .. } => Fault::Ours,
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}
