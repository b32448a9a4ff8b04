//! Whose fault an error is.

use std::io;
use std::path::PathBuf;

use hab_outbound::Cause;

use crate::KeepError;
use crate::error::{Failed, MirrorError};
use crate::transfer::Transfer;

/// Whose fault an error is; the program's exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request: it has an address or a name that cannot be used.
    Request,
    /// This machine or program: a full disk, a broken store, a bug.
    Ours,
    /// Refused: bytes that do not match their digest, or a ref that contradicts what was seen before.
    Refused,
    /// No upstream answered, and there is no copy here.
    Upstream,
    /// A person asked to stop.
    Cancelled,
}

impl From<hab_file::Error> for MirrorError {
    fn from(error: hab_file::Error) -> Self {
        let (path, source) = error.into_io();
        Self::Io { path, source }
    }
}

impl MirrorError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Offline { .. }
            | Self::Unreachable { .. }
            | Self::NoUpstream { .. }
            | Self::Unknown { .. }
            | Self::Git { why: Failed::Away, .. }
            | Self::Apt { .. } => Fault::Upstream,
            Self::WrongDigest { .. }
            | Self::WrongSize { .. }
            | Self::Malformed { .. }
            | Self::Depends { .. }
            | Self::TagMoved { .. }
            | Self::Git { .. }
            | Self::ObjectFormat { .. }
            | Self::Wiped { .. }
            | Self::Journal { .. }
            // The repository here is damaged.
            | Self::GitHere { action: "fsck" | "rev-list", .. }
            | Self::Keep { source: KeepError::WrongDigest { .. }, .. } => Fault::Refused,
            Self::Url { .. }
            | Self::Password { .. }
            | Self::NotFrozen { .. }
            | Self::Project { .. }
            | Self::NotARepository { .. }
            | Self::NotAFile { .. }
            | Self::Missing { partial: true, .. } => Fault::Request,
            Self::Gone { .. }
            | Self::GitHere { .. }
            | Self::NoGit(_)
            | Self::NoApt { .. }
            | Self::Repository { .. }
            | Self::Missing { .. }
            | Self::Keep { source: KeepError::Store(_), .. }
            | Self::Io { .. }
            | Self::HostConfig { .. } => Fault::Ours,
            Self::Cancelled { .. } | Self::Stopped { .. } => Fault::Cancelled,
        }
    }

    /// Whether upstream did not answer, or broke off, as opposed to refusing.
    pub fn is_silence(&self) -> bool {
        use Transfer::{Http, Io, Short, TooSlow};
        let Self::Unreachable { source, .. } = self else { return false };
        match &**source {
            Http(cause) => cause.is_away(),
            other => matches!(other, Io(_) | Short { .. } | TooSlow { .. }),
        }
    }

    /// Whether the host's name does not resolve.
    pub fn is_unknown_host(&self) -> bool {
        let Self::Unreachable { source, .. } = self else { return false };
        matches!(&**source, Transfer::Http(Cause::UnknownHost(_)))
    }

    /// Whether upstream answered with more bytes than are allowed.
    pub fn is_too_large(&self) -> bool {
        let Self::Unreachable { source, .. } = self else { return false };
        matches!(&**source, Transfer::TooLarge { .. })
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn keep(what: impl Into<String>) -> impl FnOnce(KeepError) -> Self {
        let what = what.into();
        move |source| Self::Keep { what, source }
    }
}
