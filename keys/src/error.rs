use std::io;
use std::path::PathBuf;

use hab_oci::{Digest, Shown, shown};

use crate::policy::RuleKind;

/// How much of a text that somebody else chose is shown in a refusal, in bytes: the verdicts of many signatures are
/// longer than a name.
const TOLD: usize = 8 << 10;

/// Why something was refused. Every variant but the files of this machine is the input's fault.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No, or not enough, good signatures by pinned keys.
    #[error(
        "{} is refused by policy {policy}: {good} of {threshold} required signatures by pinned keys; {}",
        told(what),
        told(seen)
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
    #[error("{} carries no signature, and policy {policy} demands one", told(what))]
    Unsigned {
        /// What was judged.
        what: String,
        /// The policy's name.
        policy: String,
    },
    /// The policy pins no key.
    #[error("policy {policy} pins no key yet (needs-keys: {why}), so {} is refused", told(what))]
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
    #[error("policy {policy} has no requirement of kind {kind}, so it does not decide about {}", told(what))]
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
        "{} is not vouched for by anybody: policy {policy} says that {reason}; where that is good enough, ask for it \
         with --accept-unsigned",
        told(what)
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
    #[error("{} is refused by policy {policy}, which accepts {accept}; met: {met}", told(what))]
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
    #[error("{} does not read as signed data: {}", told(what), told(detail))]
    Unreadable {
        /// What was judged.
        what: String,
        /// What the parser says.
        detail: String,
    },
    /// Signed content that does not read, or contradicts itself or what was asked for.
    #[error("{}: {}", told(what), told(detail))]
    Malformed {
        /// What was judged.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Bytes that do not have the digest that something signed, or a lock, gives for them.
    #[error("{} is not the file that {} names: expected {expected}, got {actual}", told(what), told(said_by))]
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
    /// A file that had other bytes when it was first accepted.
    #[error(
        "{} was {accepted} when it was first mirrored, and the signed list now says {listed}; the mirror keeps the old one",
        told(what)
    )]
    Changed {
        /// Which file.
        what: String,
        /// What was accepted first.
        accepted: Digest,
        /// What a signed list says now.
        listed: Digest,
    },
    /// A signed index that does not list what was asked for.
    #[error("{} is not listed in {}", told(what), told(index))]
    NotListed {
        /// What was asked for.
        what: String,
        /// Where it was looked for.
        index: String,
    },
    /// An object is not in the repository: nothing can be said about what it would have been. A shallow or partial
    /// clone lacks many.
    #[error("{} cannot be judged here: {}", told(what), told(detail))]
    Missing {
        /// What was to be judged.
        what: String,
        /// What is missing.
        detail: String,
    },
    /// Somebody asked to stop.
    #[error("judging {} was stopped", told(what))]
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

/// A name, a list, or what a parser says, as a part of a sentence: whoever signed or sent it chose what stands in it.
fn told(text: &str) -> Shown<'_> {
    shown(text).at_most(TOLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_chose_is_shown_in_a_refusal_as_what_it_is_and_not_without_end() {
        let odd = "tag v1\u{1b}[2J\u{202e}\nerror: forged".to_owned();
        let refused = Refusal::Malformed { what: odd.clone(), detail: "x".repeat(1 << 20) };
        let said = refused.to_string();
        assert!(said.starts_with(r"tag v1\u{1b}[2J\u{202e}\nerror: forged: xxx"), "{said:.100}");
        assert!(said.len() < 2 * TOLD, "{}", said.len());
        let said = Refusal::NotListed { what: odd.clone(), index: odd }.to_string();
        assert!(!said.chars().any(hab_oci::deceives), "{said}");
    }
}
