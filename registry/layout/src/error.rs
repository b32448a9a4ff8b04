//! Errors of layouts, and whose fault each is.

use std::io;
use std::path::{Path, PathBuf};

use hab_oci::{Digest, OutlineError, Tag};

/// Whose fault an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request cannot be met with this path or layout.
    Request,
    /// The layout is malformed or damaged.
    Layout,
    /// A disk failed, or is full.
    Ours,
}

/// Why a layout was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path does not exist, or is a device or a pipe.
    #[error("{} is neither a folder nor a file", path.display())]
    Neither {
        /// The path.
        path: PathBuf,
    },
    /// The folder or archive is not a layout.
    #[error("{} is not an OCI layout: {why}", path.display())]
    NotALayout {
        /// The path.
        path: PathBuf,
        /// In what way.
        why: &'static str,
    },
    /// The path to write to exists already.
    #[error("{} exists already; nothing is overwritten: remove it, or choose another name", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The archive is damaged or malformed.
    #[error("{} is not a whole tar archive; {problem}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The place and the kind of the problem.
        problem: hab_archive::Error,
    },
    /// The output of `docker save` is inconsistent or incomplete.
    #[error("{} is not what `docker save` writes: {why}", path.display())]
    Docker {
        /// The archive.
        path: PathBuf,
        /// In what way.
        why: String,
    },
    /// The archive has a member that no layout may have.
    #[error("{} has a member {member:?} {why}; a layout has only files and folders of its own, each once", path.display())]
    Member {
        /// The archive.
        path: PathBuf,
        /// Its name.
        member: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A path in the folder is a link, leads through a link, or is not a plain file.
    #[error("{} is a link, or no file; no link of a layout is followed", path.display())]
    Link {
        /// The path.
        path: PathBuf,
    },
    /// Something is larger than its limit.
    #[error("{what} has {size} bytes: at most {limit} are read")]
    TooLarge {
        /// The file or document.
        what: String,
        /// Its size.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// There is more of something than its limit allows.
    #[error("the layout has more than {limit} {what}")]
    TooMany {
        /// The things, in the plural.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Indexes are nested too deeply.
    #[error("the index {digest} is nested deeper than {limit} indexes")]
    TooDeep {
        /// The index.
        digest: Digest,
        /// The limit.
        limit: usize,
    },
    /// A document is not JSON, lacks fields that its specification demands, or is ambiguous.
    #[error("{what} cannot be parsed")]
    Json {
        /// The file or document.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Content that is listed as a manifest is not one.
    #[error("{digest} is not a manifest")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// Why not.
        #[source]
        source: OutlineError,
    },
    /// Two descriptors of the same content disagree, so the layout is ambiguous.
    #[error("{digest} is listed twice, with different sizes or types")]
    Disagreement {
        /// The content.
        digest: Digest,
    },
    /// A file that a manifest or index.json points at is missing.
    #[error("{digest} is not in the layout, though {wanted_by} needs it")]
    Missing {
        /// The missing content.
        digest: Digest,
        /// The digest of the manifest that points at it, or index.json.
        wanted_by: String,
    },
    /// A file has another size than its descriptor says.
    #[error("{digest} has {found} bytes in the layout, not {expected}")]
    WrongSize {
        /// The file.
        digest: Digest,
        /// The size in its descriptor.
        expected: u64,
        /// The size of the file.
        found: u64,
    },
    /// The bytes of a file do not have the digest of its name.
    #[error("the bytes at {expected} have the digest {found}")]
    WrongDigest {
        /// Its name.
        expected: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
    /// No image of the layout has a tag, and the caller gave none.
    #[error("no image in this layout has a tag: give one, as REPOSITORY:TAG")]
    NoTag,
    /// No image has the tag that was given, and the layout has several images.
    #[error("the layout has several images and none is tagged {wanted}: {there}")]
    NoSuchTag {
        /// The tag that was given.
        wanted: Tag,
        /// The tags or digests in the layout, in words.
        there: String,
    },
    /// Several images have the same tag.
    #[error("images of several repositories in the layout have the tag {tag}; it can name only one here")]
    TagTwice {
        /// The tag.
        tag: Tag,
    },
    /// The layout has no image.
    #[error("the layout has no image")]
    Empty,
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
