//! The errors of unpacking.

use std::io;
use std::path::PathBuf;

/// Why an archive was not unpacked. `archive` is the name the caller gave, `entry` the path as the archive spells it.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive file cannot be opened or read from the disk.
    #[error("{archive}: cannot open {path}", path = path.display())]
    Open {
        /// The archive's name.
        archive: String,
        /// The archive's path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The root folder cannot be made or opened.
    #[error("cannot unpack into {path}", path = path.display())]
    Root {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The system refused to write, for example because the disk is full.
    #[error("{archive}: cannot write {entry:?}")]
    Write {
        /// The archive's name.
        archive: String,
        /// The entry's path.
        entry: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Decompression failed: damaged data, or data of another kind than its first bytes say.
    #[error("{archive}: damaged {format} data")]
    Decode {
        /// The archive's name.
        archive: String,
        /// The format that was being decoded.
        format: &'static str,
        /// The decoder's error.
        #[source]
        source: io::Error,
    },
    /// The archive ends before its end marker, or before the length it declares.
    #[error("{archive}: truncated: it ends in the middle of {inside}")]
    Truncated {
        /// The archive's name.
        archive: String,
        /// Which part is cut.
        inside: &'static str,
    },
    /// The first bytes are those of no archive that is supported.
    #[error(
        "{archive}: not a .deb, tar, tar.gz, tar.xz or tar.zst (it looks like {looks_like}); repack it as one of these"
    )]
    Format {
        /// The archive's name.
        archive: String,
        /// What its first bytes look like.
        looks_like: &'static str,
    },
    /// A header of the outer `ar` archive is malformed, or a `.deb` is not built as deb(5) says.
    #[error("{archive}: not a valid .deb at byte {offset}: {problem}")]
    Deb {
        /// The archive's name.
        archive: String,
        /// The byte's offset in the file.
        offset: u64,
        /// What is wrong at this byte.
        problem: &'static str,
    },
    /// A tar header is malformed, or can be understood in two ways.
    #[error("{archive}: not a valid tar at byte {offset}{}: {problem}", of(entry.as_deref()))]
    Tar {
        /// The archive's name.
        archive: String,
        /// The entry's path, where it is known.
        entry: Option<String>,
        /// The byte's offset in the uncompressed stream.
        offset: u64,
        /// What is wrong at this byte.
        problem: &'static str,
    },
    /// The archive exceeds one of the reader's own limits ([`hab_archive::Limits`]).
    #[error("{archive}: refusing it{}: {exceeded}", of(entry.as_deref()))]
    Limit {
        /// The archive's name.
        archive: String,
        /// The entry's path, where it is known.
        entry: Option<String>,
        /// The limit.
        exceeded: hab_archive::Exceeded,
    },
    /// The archive holds no entry at all.
    #[error("{archive}: the archive is empty")]
    Empty {
        /// The archive's name.
        archive: String,
    },
    /// A path is not allowed; see [`NameProblem`].
    #[error("{archive}: refusing the entry {entry:?}: {problem}")]
    Name {
        /// The archive's name.
        archive: String,
        /// The entry's path.
        entry: String,
        /// What is wrong with the path.
        problem: NameProblem,
    },
    /// The path leads through a symbolic link, which this or an earlier archive made, or which was there before.
    #[error("{archive}: refusing the entry {entry:?}: its path leads through a symbolic link")]
    ThroughLink {
        /// The archive's name.
        archive: String,
        /// The entry's path.
        entry: String,
    },
    /// A hard link to something other than an earlier file of the same archive.
    #[error(
        "{archive}: refusing the hard link {entry:?} to {target:?}: not an earlier file of the same archive"
    )]
    HardLink {
        /// The archive's name.
        archive: String,
        /// The entry's path.
        entry: String,
        /// Where the link points.
        target: String,
    },
    /// A device, fifo, socket or sparse file.
    #[error("{archive}: refusing the entry {entry:?}: it is a {kind}")]
    Special {
        /// The archive's name.
        archive: String,
        /// The entry's path.
        entry: String,
        /// The entry's kind.
        kind: &'static str,
    },
    /// The path exists already with another kind or content.
    #[error("{archive}: {entry:?} is also in {other}, and differs there")]
    Conflict {
        /// The archive's name.
        archive: String,
        /// The archive that has it too.
        other: String,
        /// The entry's path.
        entry: String,
    },
    /// More than [`super::UnpackLimits::bytes`].
    #[error("{archive}: unpacks to more than {limit} bytes")]
    TooManyBytes {
        /// The archive that passed the limit.
        archive: String,
        /// The limit.
        limit: u64,
    },
    /// More than [`super::UnpackLimits::disk`].
    #[error("{archive}: unpacks to more than {limit} bytes on the disk")]
    TooMuchDisk {
        /// The archive that passed the limit.
        archive: String,
        /// The limit.
        limit: u64,
    },
    /// Unpacking did not end before [`super::Options::until`].
    #[error("{archive}: unpacking took too long")]
    Overtime {
        /// The archive that was being unpacked.
        archive: String,
    },
    /// More than [`super::UnpackLimits::entries`].
    #[error("{archive}: has more than {limit} entries")]
    TooManyEntries {
        /// The archive that passed the limit.
        archive: String,
        /// The limit.
        limit: u64,
    },
    /// More than [`super::UnpackLimits::memory`]; only where entries are reordered, which needs them in memory.
    #[error("{archive}: needs more than {limit} bytes of memory to be unpacked in another order")]
    TooMuchMemory {
        /// The archive that passed the limit.
        archive: String,
        /// The limit.
        limit: u64,
    },
    /// The caller asked to stop.
    #[error("unpacking was cancelled")]
    Cancelled,
}

/// What is wrong with a path within an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// The path has a `..` component.
    #[error("it has a .. component")]
    Parent,
    /// The path begins with `/`, which is accepted in a `.deb` only.
    #[error("it is an absolute path")]
    Absolute,
    /// The path has a NUL byte.
    #[error("it has a NUL byte")]
    Nul,
    /// A file or link whose path is empty, or nothing but dots and slashes.
    #[error("it names the root itself")]
    Empty,
    /// Longer than [`super::UnpackLimits::path`], or a component of more than 255 bytes.
    #[error("it is too long")]
    TooLong,
    /// An OCI whiteout; the layers made here never have one.
    #[error("it is a whiteout")]
    Whiteout,
}

fn of(entry: Option<&str>) -> String {
    entry.map_or_else(String::new, |entry| format!(", entry \"{entry}\""))
}

impl UnpackError {
    /// Whether the archive is to blame, rather than this machine (its disk, or a person who pressed Ctrl-C).
    pub fn is_archives_fault(&self) -> bool {
        match self {
            Self::Open { .. } | Self::Root { .. } | Self::Write { .. } | Self::Cancelled => false,
            Self::Decode { .. }
            | Self::Truncated { .. }
            | Self::Format { .. }
            | Self::Deb { .. }
            | Self::Tar { .. }
            | Self::Limit { .. }
            | Self::Empty { .. }
            | Self::Name { .. }
            | Self::ThroughLink { .. }
            | Self::HardLink { .. }
            | Self::Special { .. }
            | Self::Conflict { .. }
            | Self::TooManyBytes { .. }
            | Self::TooMuchDisk { .. }
            | Self::Overtime { .. }
            | Self::TooManyEntries { .. }
            | Self::TooMuchMemory { .. } => true,
        }
    }
}
