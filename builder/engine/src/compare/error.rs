//! Why a tree could not be looked at.

use std::io;

use hab_oci::shown;

/// What stopped the scan of a tree, or the check of a file in it. Paths are those below the tree's folder, which the
/// caller names.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The system refused to read.
    #[error("cannot read {path:?}", path = shown(path))]
    Read {
        /// What was to be read.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A name that must not be in an image.
    #[error("{path:?}: {problem}", path = shown(path))]
    Name {
        /// The path, as far as it is text.
        path: String,
        /// What is wrong with it.
        problem: NameProblem,
    },
    /// The target of a symbolic link must not be in an image.
    #[error("{path:?} is a symbolic link to {target:?}: {problem}", path = shown(path), target = shown(target))]
    Target {
        /// The link.
        path: String,
        /// Where it points, as far as that is text.
        target: String,
        /// What is wrong with it.
        problem: NameProblem,
    },
    /// A device, fifo or socket among the outputs, or something else than a folder at the top.
    #[error("{path:?}: neither a file, a directory nor a symbolic link; outputs must be one of these", path = shown(path))]
    Special {
        /// The path.
        path: String,
    },
    /// Something else than a folder where the outputs should be.
    #[error("something else was put in the folder's place")]
    NoFolder,
    /// A program that would run as its owner.
    #[error("{path:?} has mode {mode:04o}: no image has setuid or setgid programs; clear these bits in build.sh", path = shown(path))]
    SetId {
        /// The path.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Its owner may not read it, so nobody could check it but root.
    #[error("{path:?} has mode {mode:04o}, so its owner cannot read it; outputs must be readable", path = shown(path))]
    Unreadable {
        /// The path.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// More than [`super::Limits::entries`].
    #[error("more than {limit} files, links and directories")]
    TooManyEntries {
        /// The limit.
        limit: usize,
    },
    /// More than [`super::Limits::bytes`].
    #[error(
        "more than {limit} bytes of files, of which sparse ones count in full; build.disk_mib is the limit"
    )]
    TooManyBytes {
        /// The limit.
        limit: u64,
    },
    /// More than [`super::Limits::names`].
    #[error("more than {limit} bytes of paths")]
    TooManyNames {
        /// The limit.
        limit: usize,
    },
    /// It begins as an ELF file and goes on as something else, or as one that no linker makes.
    #[error("{path:?}: not a valid ELF file", path = shown(path))]
    Elf {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: ElfProblem,
    },
    /// The programs of a tree ask for more than can be looked up in reasonable time.
    #[error("its programs ask for libraries in more than {limit} places")]
    TooManyPlaces {
        /// The limit.
        limit: usize,
    },
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// A name that is not UTF-8 cannot be recorded.
    #[error("the name is not UTF-8; outputs need names that can be written down")]
    NotText,
    /// Control characters, those that change the direction of writing, and those that take no room.
    #[error(
        "the name has a control character or one that cannot be seen; it would not be read as what it is"
    )]
    Deceives,
    /// White space at its beginning or end, which cannot be seen either.
    #[error("a name in it begins or ends with white space")]
    Space,
    /// In a layer it would remove a file of the layer below.
    #[error("a name in it begins with .wh., which removes files in an image")]
    Whiteout,
    /// More than 255 bytes in a component, or 4095 in all.
    #[error("the name is too long; a component has at most 255 bytes and a path 4095")]
    TooLong,
    /// Empty, absolute, or with a component that is empty, `.` or `..`.
    #[error("it is not a path below the folder")]
    NoPath,
    /// A link's target with more `..` than there are folders above it.
    #[error("it leads out of the image")]
    Outside,
}

/// What is wrong with an ELF file.
#[derive(Debug, thiserror::Error)]
pub enum ElfProblem {
    /// The system refused to read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// The header is of no kind that is known here.
    #[error("{0}")]
    Header(&'static str),
    /// A table lies outside of the file, or of its segment.
    #[error("{0} lies outside of the file")]
    Outside(&'static str),
    /// More of something than any linker writes.
    #[error("it has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}
