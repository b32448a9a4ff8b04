//! The errors of reading a tree.

use std::io;

use hab_oci::shown;

/// Why a tree could not be scanned, or a file in it not be checked. Paths are those below the tree's folder, which the
/// caller names.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The system refused to read.
    #[error("cannot read {path:?}", path = shown(path))]
    Read {
        /// The path that was to be read.
        path: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A name that is not allowed in an image.
    #[error("{path:?}: {problem}", path = shown(path))]
    Name {
        /// The path, as far as it is text.
        path: String,
        /// What is wrong with the name.
        problem: NameProblem,
    },
    /// The target of a symbolic link is not allowed in an image.
    #[error("{path:?} is a symbolic link to {target:?}: {problem}", path = shown(path), target = shown(target))]
    Target {
        /// The link.
        path: String,
        /// The link's target, as far as it is text.
        target: String,
        /// What is wrong with the target.
        problem: NameProblem,
    },
    /// A device, fifo or socket is among the outputs.
    #[error("{path:?}: neither a file, a directory nor a symbolic link; outputs must be one of these", path = shown(path))]
    Special {
        /// The path.
        path: String,
    },
    /// Something other than a folder is where the outputs should be.
    #[error("the folder was replaced by something else")]
    NoFolder,
    /// A program that would run as its owner or group.
    #[error("{path:?} has mode {mode:04o}: no image has setuid or setgid programs; clear these bits in build.sh", path = shown(path))]
    SetId {
        /// The path.
        path: String,
        /// The file's mode.
        mode: u32,
    },
    /// The file's owner may not read it, so nobody but root could check it.
    #[error("{path:?} has mode {mode:04o}, so its owner cannot read it; outputs must be readable", path = shown(path))]
    Unreadable {
        /// The path.
        path: String,
        /// The mode of the file or directory.
        mode: u32,
    },
    /// More than [`super::TreeLimits::entries`].
    #[error("more than {limit} files, links and directories")]
    TooManyEntries {
        /// The limit.
        limit: usize,
    },
    /// More than [`super::TreeLimits::bytes`].
    #[error(
        "more than {limit} bytes of files, of which sparse ones count in full; build.disk_mib is the limit"
    )]
    TooManyBytes {
        /// The limit.
        limit: u64,
    },
    /// More than [`super::TreeLimits::names`].
    #[error("more than {limit} bytes of paths")]
    TooManyNames {
        /// The limit.
        limit: usize,
    },
    /// The file begins as an ELF file and goes on as something else, or as one that no linker makes.
    #[error("{path:?}: not a valid ELF file", path = shown(path))]
    Elf {
        /// The file.
        path: String,
        /// What is wrong with the file.
        #[source]
        source: ElfProblem,
    },
    /// The programs of a tree look for libraries in more places than can be looked up in reasonable time.
    #[error("its programs look for libraries in more than {limit} places")]
    TooManyPlaces {
        /// The limit.
        limit: usize,
    },
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// A name that is not UTF-8 cannot be recorded.
    #[error("the name is not UTF-8; outputs need names that can be recorded as text")]
    NotText,
    /// A control character, one that changes the direction of writing, or one that takes no room.
    #[error("the name has a control character or an invisible one; people would read it as another name")]
    Deceives,
    /// A component begins or ends with white space, which cannot be seen either.
    #[error("a name in it begins or ends with white space")]
    Space,
    /// A component begins with `.wh.`; in a layer it would remove a file of the layer below.
    #[error("a name in it begins with .wh., which removes files in an image")]
    Whiteout,
    /// More than 255 bytes in a component, or 4095 in all.
    #[error("the name is too long; a component has at most 255 bytes and a path 4095")]
    TooLong,
    /// An empty or absolute path, or one with a component that is empty, `.` or `..`.
    #[error("it is not a path below the folder")]
    NoPath,
    /// A link's target has more `..` than there are folders above the link.
    #[error("it leads out of the image")]
    Outside,
}

/// What is wrong with an ELF file.
#[derive(Debug, thiserror::Error)]
pub enum ElfProblem {
    /// The system refused to read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// The header is of an unknown kind.
    #[error("{0}")]
    Header(&'static str),
    /// A table lies outside of the file, or of its segment.
    #[error("{0} lies outside of the file")]
    Outside(&'static str),
    /// The file has more of something than any linker writes.
    #[error("it has more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}
