//! The errors of making an image.

use std::io;

/// Why an image was not made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A path that is not allowed in a layer.
    #[error("{path:?} cannot be in a layer: {problem}")]
    Path {
        /// The path as given.
        path: String,
        /// What is wrong with the path.
        problem: PathProblem,
    },
    /// Two entries for one path.
    #[error("{path:?} is in the layer twice")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// A file or link stands where another entry needs a directory.
    #[error("{path:?} cannot be in the layer: {parent:?} is not a directory")]
    Parent {
        /// The path.
        path: String,
        /// The path above it that is not a directory.
        parent: String,
    },
    /// A hard link whose target is not a file of the layer, or sorts after the link.
    #[error("{path:?} cannot be a hard link to {target:?}: the layer has no such file before it")]
    HardLink {
        /// The path.
        path: String,
        /// The file that the link should point at.
        target: String,
    },
    /// A mode with other bits than permissions.
    #[error("{path:?}: {mode:#o} is not a mode; expected at most 0o7777")]
    Mode {
        /// The path.
        path: String,
        /// The mode that was given.
        mode: u32,
    },
    /// A time that a tar header or RFC 3339 cannot express.
    #[error("{0} is not a time for an image: expected seconds since 1970, before the year 2243")]
    Epoch(i64),
    /// The content of a file could not be read.
    #[error("cannot read the content of {path:?}")]
    Read {
        /// The path in the layer.
        path: String,
        /// The reader's error.
        #[source]
        source: io::Error,
    },
    /// The content of a file is not as long as was promised: it changed meanwhile.
    #[error("the content of {path:?} is {relation} than the {size} bytes that were promised")]
    Size {
        /// The path in the layer.
        path: String,
        /// `longer` or `shorter`.
        relation: &'static str,
        /// The size that was promised, in bytes.
        size: u64,
    },
    /// The compressor or the output failed.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    /// A thread ended without a result, which only a panic does.
    #[error("a thread that packs the layer panicked")]
    Panicked,
    /// A value in an [`crate::ImageSpec`] that runtimes would not understand.
    #[error("{value:?} is not {expected}")]
    Spec {
        /// The value that was given.
        value: String,
        /// What the value should have been.
        expected: &'static str,
    },
    /// An index with no image, with two for one platform, or with one that names no platform.
    #[error("cannot make an index: {0}")]
    Index(&'static str),
    /// A document could not be written as JSON.
    #[error("cannot write a document as JSON")]
    Json(#[from] serde_json::Error),
}

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// The path begins with `/`.
    #[error("it is absolute; paths in a layer are relative to its root")]
    Absolute,
    /// The path is empty, or has a component that is empty, `.` or `..`.
    #[error("it has a component that is empty, . or ..")]
    Component,
    /// The path has a NUL byte.
    #[error("it has a NUL byte")]
    Nul,
    /// The path has a component that begins with `.wh.`, which removes a file of the layer below.
    #[error("it is a whiteout")]
    Whiteout,
}
