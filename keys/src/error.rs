use std::io;
use std::path::PathBuf;

use hab_oci::Digest;

use crate::policy::RuleKind;

/// Why something was refused. Every variant but the files of this machine is the input's fault.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No, or not enough, good signatures by pinned keys.
    #[error(
        "{what} is refused by policy {policy}: {good} of {threshold} required signatures by pinned keys; {seen}"
    )]
    Signatures {
        /// What was judged.
        what: String,
        /// The policy's name.
        policy: String,
        /// How many distinct pinned keys signed it well.
        good: usize,
        /// How many must.
        threshold: usize,
        /// Each signature that was seen and its verdict, in words.
        seen: String,
        /// What a person can do, where a certificate that is not here could say more.
        find: Option<String>,
    },
    /// It carries no signature at all.
    #[error("{what} carries no signature, and policy {policy} demands one")]
    Unsigned {
        /// What was judged.
        what: String,
        /// The policy's name.
        policy: String,
    },
    /// The policy pins no key.
    #[error("policy {policy} pins no key yet (needs-keys: {why}), so {what} is refused")]
    NeedsKeys {
        /// What was judged.
        what: String,
        /// The policy's name.
        policy: String,
        /// Why.
        why: String,
    },
    /// No certificate of a pinned key was found on this machine.
    #[error(
        "no certificate of a key that policy {policy} pins was found in {searched}; import one there, or name its \
         file under certificates in hab.toml"
    )]
    NoCertificates {
        /// The policy's name.
        policy: String,
        /// Where it was searched.
        searched: String,
        /// What a person can do.
        find: String,
    },
    /// The policy asks for something else than what was brought before it.
    #[error("policy {policy} has no requirement of kind {kind}, so it does not decide about {what}")]
    WrongPolicy {
        /// What was judged.
        what: String,
        /// The policy's name.
        policy: String,
        /// What kind of requirement decides about it.
        kind: RuleKind,
    },
    /// The project signs nothing of the kind, as its policy says.
    #[error(
        "{what} is not vouched for by anybody: policy {policy} says that {reason}; where that is good enough, ask for it \
         with --accept-unsigned"
    )]
    AskForUnsigned {
        /// What was judged.
        what: String,
        /// The policy's name.
        policy: String,
        /// Why there is no better.
        reason: String,
    },
    /// A source meets some of what its policy demands, but not enough.
    #[error("{what} is refused by policy {policy}, which accepts {accept}; met: {met}")]
    NotEnough {
        /// What was judged.
        what: String,
        /// The policy's name.
        policy: String,
        /// What the policy demands.
        accept: String,
        /// Which requirements are met.
        met: String,
    },
    /// The signed data does not read.
    #[error("{what} does not read as signed data: {detail}")]
    Unreadable {
        /// What was judged.
        what: String,
        /// What the parser says.
        detail: String,
    },
    /// Signed content that does not read, or contradicts itself or what was asked for.
    #[error("{what}: {detail}")]
    Malformed {
        /// What was judged.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Bytes that do not have the digest that something signed, or a lock, gives for them.
    #[error("{what} is not the file that {said_by} names: expected {expected}, got {actual}")]
    WrongDigest {
        /// Which file.
        what: String,
        /// Which document gives the digest.
        said_by: String,
        /// The given digest.
        expected: Digest,
        /// The bytes' digest.
        actual: Digest,
    },
    /// A signed index that does not list what was asked for.
    #[error("{what} is not listed in {index}")]
    NotListed {
        /// What was asked for.
        what: String,
        /// Where it was looked for.
        index: String,
    },
    /// An object is not in the repository: nothing can be said about what it would have been. A shallow or partial
    /// clone lacks many.
    #[error("{what} cannot be judged here: {detail}")]
    Missing {
        /// What was to be judged.
        what: String,
        /// What is missing.
        detail: String,
    },
    /// Somebody asked to stop.
    #[error("judging {what} was stopped")]
    Cancelled {
        /// What was judged.
        what: String,
    },
    /// A repository does not open or read.
    #[error("repository {path} cannot be read")]
    Repository {
        /// Where it is.
        path: PathBuf,
        /// What libgit2 says.
        #[source]
        source: git2::Error,
    },
    /// A file of this machine does not read.
    #[error("{path} cannot be read", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl Refusal {
    /// What a person can do about it, in a sentence of its own.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Signatures { find, .. } => find.clone(),
            Self::NoCertificates { find, .. } => Some(find.clone()),
            _ => None,
        }
    }

    /// Whether the input is refused, rather than this machine unable to judge it.
    pub fn is_verdict(&self) -> bool {
        !matches!(
            self,
            Self::Io { .. } | Self::Cancelled { .. } | Self::Repository { .. } | Self::Missing { .. }
        )
    }
}
