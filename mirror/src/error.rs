//! Why something is not mirrored; whose fault that is says `fault.rs`.

use std::io;
use std::path::PathBuf;

use hab_oci::{Digest, Shown, shown};

use crate::KeepError;
use crate::depends::DependsError;
use crate::transfer::Transfer;

/// The most bytes of a text from outside that an error shows; a few lines of git's output are longer than a name.
const TOLD: usize = 4 << 10;

/// Why something is not mirrored.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The file is not here, and `--offline` forbids fetching it.
    #[error("{} is not mirrored here, and nothing is fetched offline; mirror it first", told(what))]
    Offline {
        /// What was to be fetched.
        what: String,
    },
    /// Bytes that were stored earlier, or just now, are not in the store.
    #[error("{} is not in the store any more; mirror it again", told(what))]
    Gone {
        /// What was to be read.
        what: String,
    },
    /// Every upstream failed; the last failure is the source.
    #[error("{} could not be fetched from any of {tried} upstreams; the last was {}", told(what), told(url))]
    Unreachable {
        /// What was to be fetched.
        what: String,
        /// The number of upstreams that were asked.
        tried: usize,
        /// The last upstream that was asked.
        url: String,
        /// Why that upstream failed.
        #[source]
        source: Box<Transfer>,
    },
    /// There is no upstream to ask.
    #[error("no upstream is known for {}; {advice}", told(what))]
    NoUpstream {
        /// What was to be fetched.
        what: String,
        /// What the operator can do.
        advice: String,
    },
    /// An upstream sent bytes with another digest, and no other upstream had the right ones.
    #[error("{} from {} is not what the lock says: expected {expected}, got {actual}", told(what), told(url))]
    WrongDigest {
        /// What was to be fetched.
        what: String,
        /// The upstream that sent the bytes.
        url: String,
        /// The digest that the lock gives.
        expected: Digest,
        /// The digest of the bytes that came.
        actual: Digest,
    },
    /// An upstream has a file of another size than the lock says, and no other upstream had the right one.
    #[error(
        "{} from {} is not what the lock says: expected {expected} bytes, got {actual}",
        told(what),
        told(url)
    )]
    WrongSize {
        /// What was to be fetched.
        what: String,
        /// The upstream that has the file.
        url: String,
        /// The size that the lock gives, in bytes.
        expected: u64,
        /// The size upstream, in bytes.
        actual: u64,
    },
    /// A document from outside cannot be parsed, or breaks a rule.
    #[error("{} is not {expected}: {}", told(what), told(detail))]
    Malformed {
        /// The document.
        what: String,
        /// What it should be, with an article.
        expected: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A project's depends folder does not give the sources of its packages.
    #[error("cannot read the sources of {} from its depends folder", told(what))]
    Depends {
        /// The project and its revision.
        what: String,
        /// What is wrong, and where.
        #[source]
        source: DependsError,
    },
    /// The upstream has no such version or tag.
    #[error("{} is not known to {}", told(what), told(upstream))]
    Unknown {
        /// What was asked for.
        what: String,
        /// The upstream that was asked.
        upstream: String,
    },
    /// Upstream moved a tag after it was mirrored. The old value stays.
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
        /// The object that it names here.
        old: String,
        /// The object that it names upstream.
        new: String,
    },
    /// The git program failed when it talked to an upstream.
    #[error("git {action} failed for {}: {}", told(url), told(stderr))]
    Git {
        /// What git was asked to do.
        action: &'static str,
        /// The upstream.
        url: String,
        /// The last lines of git's output.
        stderr: String,
        /// What the failure says about the upstream.
        why: Failed,
    },
    /// An upstream whose object ids are SHA-256.
    #[error(
        "{} names its objects by SHA-256, and only repositories that name them by SHA-1 are mirrored",
        told(url)
    )]
    ObjectFormat {
        /// The upstream.
        url: String,
    },
    /// An upstream that answers and has no refs any more.
    #[error(
        "{} has none of the refs of {project} any more; the {refs} that are mirrored here stay",
        told(url)
    )]
    Wiped {
        /// The project.
        project: String,
        /// The upstream.
        url: String,
        /// How many branches and tags are mirrored here.
        refs: usize,
    },
    /// The git program failed on a repository in the data folder.
    #[error("git {action} failed in {path}: {}", told(stderr))]
    GitHere {
        /// What git was asked to do.
        action: &'static str,
        /// The repository.
        path: PathBuf,
        /// The last lines of git's output.
        stderr: String,
    },
    /// An address that must not be fetched from.
    #[error("cannot fetch from {}: {}", told(url), told(detail))]
    Url {
        /// The address.
        url: String,
        /// Why not, and what to do.
        detail: String,
    },
    /// A password file that cannot be used.
    #[error("cannot use the password file {path}: {detail}")]
    Password {
        /// Which file.
        path: PathBuf,
        /// Why not, and what to do.
        detail: String,
    },
    /// A ref that waits for no decision, so it cannot be accepted.
    #[error("{} of {project} cannot be accepted: {}", told(name), told(detail))]
    NotFrozen {
        /// The project.
        project: String,
        /// What was asked for.
        name: String,
        /// Why it cannot be accepted.
        detail: String,
    },
    /// A project's file cannot be parsed.
    #[error("cannot read the file of project {}: {}", told(project), told(detail))]
    Project {
        /// The project.
        project: String,
        /// What is wrong, and where.
        detail: String,
    },
    /// The git program is not installed.
    #[error("git is not installed, or util-linux's setpriv is not; install the packages git and util-linux")]
    NoGit(#[source] io::Error),
    /// apt is not installed.
    #[error("apt-get is not installed; only `hab-build lock` needs it, so run that on a Debian host")]
    NoApt {
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// apt failed.
    #[error("apt-get {action} failed: {}", told(said))]
    Apt {
        /// What apt was asked to do.
        action: &'static str,
        /// apt's errors.
        said: String,
    },
    /// A ref journal whose chain of digests is broken.
    #[error("line {line} of {path} is not the next entry of a ref journal: {}", told(detail))]
    Journal {
        /// The journal.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// A person named a folder that is not a readable git repository.
    #[error("{path} is not a git repository that can be read here: {}", told(detail))]
    NotARepository {
        /// The folder.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// A person named something that is not a readable file.
    #[error("{path} is not a file that can be read: {}", told(detail))]
    NotAFile {
        /// The path that the person gave.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// An object that something else refers to is not in its repository.
    #[error("{} is not in the repository {path}{}", told(what), cut_off(*partial))]
    Missing {
        /// The object.
        what: String,
        /// The repository.
        path: PathBuf,
        /// Whether the repository is a clone that lacks some history or objects.
        partial: bool,
    },
    /// A mirrored repository cannot be read.
    #[error("cannot read the mirrored repository {path}")]
    Repository {
        /// The repository.
        path: PathBuf,
        /// libgit2's error.
        #[source]
        source: git2::Error,
    },
    /// The store failed.
    #[error("{} could not be kept", told(what))]
    Keep {
        /// What was to be stored or looked up.
        what: String,
        /// The store's error.
        #[source]
        source: KeepError,
    },
    /// A local file cannot be read or written.
    #[error("{path} could not be read or written", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The host's configuration of a package client cannot be used.
    #[error("cannot use the host's {client} configuration: {}", told(detail))]
    HostConfig {
        /// The client: apt or cargo.
        client: &'static str,
        /// What is wrong, and where.
        detail: String,
    },
    /// A person asked to stop a fetch; the next run resumes it.
    #[error("stopped while fetching {}; the next run resumes there", told(what))]
    Cancelled {
        /// What was being fetched.
        what: String,
    },
    /// A person asked to stop something that cannot be resumed.
    #[error("{} was stopped; {then}", told(what))]
    Stopped {
        /// What was under way.
        what: String,
        /// What became of it.
        then: &'static str,
    },
}

/// What git's failure says about an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It did not answer, broke off, or cannot send what it claims to have.
    Away,
    /// It answered, and is refused: it has more than is allowed, or its history is cut off.
    NotTaken,
    /// It answered, and git's fsck refuses what it sent; these are the names of the failed checks, as far as git gives
    /// them.
    Fsck(Vec<String>),
}

/// A text from outside (a name, an address, a message), escaped and shortened for a sentence.
fn told(text: &str) -> Shown<'_> {
    shown(text).at_most(TOLD)
}

/// What to add if a repository never had all objects.
fn cut_off(partial: bool) -> &'static str {
    if partial {
        ", which is a shallow or partial clone: objects that it lacks may exist elsewhere"
    } else {
        ""
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
        assert!(said.starts_with(r"refs/heads/\u{9b}2J\u{202e}\nerror: forged is not a git"), "{said:.100}");
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
