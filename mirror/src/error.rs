use std::io;
use std::path::PathBuf;

use hab_oci::{Digest, Shown, shown};
use hab_outbound::Cause;

use crate::KeepError;
use crate::depends::DependsError;
use crate::transfer::Transfer;

/// How much of a text that somebody else chose is shown in an error, in bytes: a few lines of git's are longer than a
/// name.
const TOLD: usize = 4 << 10;

/// Whose fault an error is; the program's exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request's: an address or a name that cannot be used.
    Request,
    /// Ours: a full disk, a broken store, a bug.
    Ours,
    /// Bytes that do not meet their digest, or a ref that contradicts what was seen before.
    Refused,
    /// No upstream answered and there is no copy here.
    Upstream,
    /// The person asked to stop.
    Cancelled,
}

/// Why something is not mirrored.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// `--offline`, and not here.
    #[error("{} is not mirrored here, and nothing is fetched offline; mirror it first", told(what))]
    Offline {
        /// What was wanted.
        what: String,
    },
    /// What was mirrored, or has just been, is not in the store.
    #[error("{} is not in the store any more; mirror it again", told(what))]
    Gone {
        /// What was wanted.
        what: String,
    },
    /// Every upstream failed; the last failure is the source.
    #[error("{} could not be fetched from any of {tried} upstreams; the last was {}", told(what), told(url))]
    Unreachable {
        /// What was wanted.
        what: String,
        /// How many upstreams were asked.
        tried: usize,
        /// The last one asked.
        url: String,
        /// How that one failed.
        #[source]
        source: Box<Transfer>,
    },
    /// There is nowhere to ask.
    #[error("no upstream is known for {}; {advice}", told(what))]
    NoUpstream {
        /// What was wanted.
        what: String,
        /// What to do.
        advice: String,
    },
    /// An upstream sent other bytes than the digest, and no other upstream had the right ones.
    #[error("{} from {} is not what the lock says: expected {expected}, got {actual}", told(what), told(url))]
    WrongDigest {
        /// What was wanted.
        what: String,
        /// Who sent it.
        url: String,
        /// The wanted digest.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// An upstream has a file of another size than the lock says, and no other upstream had the right one.
    #[error(
        "{} from {} is not what the lock says: expected {expected} bytes, got {actual}",
        told(what),
        told(url)
    )]
    WrongSize {
        /// What was wanted.
        what: String,
        /// Who has it.
        url: String,
        /// Bytes wanted.
        expected: u64,
        /// Bytes there.
        actual: u64,
    },
    /// A document from upstream does not read as what it should be.
    #[error("{} does not read as {expected}: {}", told(what), told(detail))]
    Malformed {
        /// Which document.
        what: String,
        /// What it should be.
        expected: &'static str,
        /// Where it does not.
        detail: String,
    },
    /// A project's depends folder does not say what it is built from.
    #[error("what {} is built from cannot be read from its depends folder", told(what))]
    Depends {
        /// The project and its revision.
        what: String,
        /// Where it does not.
        #[source]
        source: DependsError,
    },
    /// The upstream has no such version or tag.
    #[error("{} is not known to {}", told(what), told(upstream))]
    Unknown {
        /// What was asked for.
        what: String,
        /// Who does not know it.
        upstream: String,
    },
    /// A tag that upstream moved after it was mirrored. The old value stays.
    #[error(
        "tag {} of {project} was {old} when it was first mirrored and upstream now says {new}; \
         the mirror keeps the old one and refuses to build either",
        told(tag)
    )]
    TagMoved {
        /// The project.
        project: String,
        /// The tag's name.
        tag: String,
        /// The object it names here.
        old: String,
        /// The object it names upstream.
        new: String,
    },
    /// The git program failed.
    #[error("git {action} failed for {}: {}", told(url), told(stderr))]
    Git {
        /// What it was asked to do.
        action: &'static str,
        /// Of whom.
        url: String,
        /// Its last words.
        stderr: String,
        /// What that says of the upstream.
        why: Failed,
    },
    /// An upstream whose objects have ids of another kind.
    #[error(
        "{} names its objects by SHA-256, and only repositories that name them by SHA-1 are mirrored",
        told(url)
    )]
    ObjectFormat {
        /// The upstream.
        url: String,
    },
    /// An upstream that answers and has nothing any more.
    #[error(
        "{} has none of the refs of {project} any more; the {refs} that are mirrored here stay",
        told(url)
    )]
    Wiped {
        /// The project.
        project: String,
        /// The upstream.
        url: String,
        /// How many branches and tags are here.
        refs: usize,
    },
    /// The git program failed on a repository of ours.
    #[error("git {action} failed in {path}: {}", told(stderr))]
    GitHere {
        /// What it was asked to do.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Its last words.
        stderr: String,
    },
    /// An address that is not fetched from.
    #[error("nothing is fetched from {}: {}", told(url), told(detail))]
    Url {
        /// The address.
        url: String,
        /// Why not, and what to do.
        detail: String,
    },
    /// A password file that is not used.
    #[error("the password file {path} is not used: {detail}")]
    Password {
        /// Which file.
        path: PathBuf,
        /// Why not, and what to do.
        detail: String,
    },
    /// A ref that waits for nobody.
    #[error("{} of {project} cannot be accepted: {}", told(name), told(detail))]
    NotFrozen {
        /// The project.
        project: String,
        /// What was asked for.
        name: String,
        /// What there is instead.
        detail: String,
    },
    /// A project's file does not read.
    #[error("project {} does not read: {}", told(project), told(detail))]
    Project {
        /// Which.
        project: String,
        /// Where it does not.
        detail: String,
    },
    /// The git program is not installed.
    #[error("git is not installed, or util-linux's setpriv is not; install the packages git and util-linux")]
    NoGit(#[source] io::Error),
    /// apt is not installed.
    #[error("apt-get is not installed; only `hab-build lock` needs it, so run that on a Debian host")]
    NoApt {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// apt failed.
    #[error("apt-get {action} failed: {}", told(said))]
    Apt {
        /// What it was asked to do.
        action: &'static str,
        /// Its errors.
        said: String,
    },
    /// A ref journal whose chain does not hold.
    #[error("line {line} of {path} does not read as the next entry of a ref journal: {}", told(detail))]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Which of its lines, counted from 1.
        line: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// What a person named is no repository that could be read.
    #[error("{path} is not a git repository that can be read here: {}", told(detail))]
    NotARepository {
        /// What was named.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// What a person named is no file that could be read from its beginning to its end.
    #[error("{path} is not a file that can be read: {}", told(detail))]
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// An object that something else names, and that is not in its repository.
    #[error("{} is not in the repository {path}{}", told(what), cut_off(*partial))]
    Missing {
        /// Which object.
        what: String,
        /// Where it should be.
        path: PathBuf,
        /// Whether the repository is a clone that leaves out history or objects.
        partial: bool,
    },
    /// A mirrored repository does not read.
    #[error("the mirrored repository {path} does not read")]
    Repository {
        /// Where it is.
        path: PathBuf,
        /// What libgit2 says.
        #[source]
        source: git2::Error,
    },
    /// The store.
    #[error("{} could not be kept", told(what))]
    Keep {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: KeepError,
    },
    /// A local file.
    #[error("{path} could not be read or written", path = path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The host's configuration of a package client does not read.
    #[error("the host's {client} configuration does not read: {}", told(detail))]
    HostConfig {
        /// apt or cargo.
        client: &'static str,
        /// What is wrong, and where.
        detail: String,
    },
    /// The person asked to stop.
    #[error("stopped while fetching {}; the next run resumes there", told(what))]
    Cancelled {
        /// What was under way.
        what: String,
    },
    /// The person asked to stop something that does not resume.
    #[error("{} was stopped; {then}", told(what))]
    Stopped {
        /// What was under way.
        what: String,
        /// What became of it.
        then: &'static str,
    },
}

/// What git's failure says of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It did not answer, broke off, or cannot give what it says it has.
    Away,
    /// It answered, and what it has is not taken: it is more than is allowed, or its history is cut off.
    NotTaken,
    /// It answered, and git's fsck refuses what it sent: by these checks, as far as git names them.
    Fsck(Vec<String>),
}

/// A name, an address, or what somebody said, as a part of a sentence: upstreams choose what stands in it.
fn told(text: &str) -> Shown<'_> {
    shown(text).at_most(TOLD)
}

/// What to add where a repository never had all objects.
fn cut_off(partial: bool) -> &'static str {
    if partial {
        ", which is a shallow or partial clone: that decides nothing about what is missing"
    } else {
        ""
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
            // What is here is not what it was.
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

    /// Whether upstream said nothing, or broke off, rather than no.
    pub fn is_silence(&self) -> bool {
        use Transfer::{Http, Io, Short, TooSlow};
        let Self::Unreachable { source, .. } = self else { return false };
        match &**source {
            Http(cause) => cause.is_away(),
            other => matches!(other, Io(_) | Short { .. } | TooSlow { .. }),
        }
    }

    /// Whether there is no host of that name.
    pub fn is_unknown_host(&self) -> bool {
        let Self::Unreachable { source, .. } = self else { return false };
        matches!(&**source, Transfer::Http(Cause::UnknownHost(_)))
    }

    /// Whether upstream answered with more bytes than were accepted.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_upstreams_chose_is_shown_in_an_error_as_what_it_is_and_not_without_end() {
        let odd = "refs/heads/\u{9b}2J\u{202e}\nerror: forged".to_owned();
        let (what, expected) = (odd.clone(), "a git object");
        let said = MirrorError::Malformed { what, expected, detail: "x".repeat(1 << 20) }.to_string();
        assert!(said.starts_with(r"refs/heads/\u{9b}2J\u{202e}\nerror: forged does not read"), "{said:.100}");
        assert!(said.len() < 2 * TOLD, "{}", said.len());
        let (project, file) = ("p".to_owned(), odd.clone());
        for said in [
            MirrorError::NotFrozen { project, name: odd.clone(), detail: odd.clone() }.to_string(),
            MirrorError::Unknown { what: odd.clone(), upstream: odd.clone() }.to_string(),
            DependsError { file, line: 1, detail: odd }.to_string(),
        ] {
            assert!(!said.chars().any(hab_oci::deceives), "{said}");
        }
    }
}
