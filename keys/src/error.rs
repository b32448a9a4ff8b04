use std::io;
use std::path::PathBuf;

use hab_oci::{Digest, Shown, shown};

use crate::policy::RuleKind;

/// The most bytes of a text from outside that a refusal shows; the verdicts on many signatures are longer than a name.
const TOLD: usize = 8 << 10;

/// Why something was refused. Except for files of this machine that cannot be read, the input is at fault.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There are no good signatures by pinned keys, or not enough.
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
        /// How many distinct pinned keys made a good signature.
        good: usize,
        /// How many must.
        threshold: usize,
        /// Each signature that was seen, with its verdict, in words.
        seen: String,
        /// What a person can do, if a certificate that is missing here could help.
        find: Option<String>,
    },
    /// The bytes carry no signature at all.
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
        /// The reason that the policy gives.
        why: String,
    },
    /// This machine has no certificate of a pinned key.
    #[error(
        "no certificate of a key that policy {policy} pins was found in {searched}; import one there, or name its \
         file under certificates in hab.toml"
    )]
    NoCertificates {
        /// The policy's name.
        policy: String,
        /// The places that were searched.
        searched: String,
        /// What a person can do.
        find: String,
    },
    /// The policy has no requirement for this kind of thing.
    #[error("policy {policy} has no requirement of kind {kind}, so it does not decide about {}", told(what))]
    WrongPolicy {
        /// What was judged.
        what: String,
        /// The policy's name.
        policy: String,
        /// The kind of requirement that decides about it.
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
        /// Why there is no signature.
        reason: String,
    },
    /// A source meets some of the requirements that its policy demands, but not enough.
    #[error("{} is refused by policy {policy}, which accepts {accept}; met: {met}", told(what))]
    NotEnough {
        /// What was judged.
        what: String,
        /// The policy's name.
        policy: String,
        /// What the policy demands.
        accept: String,
        /// The requirements that are met.
        met: String,
    },
    /// The signed data cannot be parsed.
    #[error("cannot read {} as signed data: {}", told(what), told(detail))]
    Unreadable {
        /// What was judged.
        what: String,
        /// The parser's error.
        detail: String,
    },
    /// Signed content that cannot be parsed, contradicts itself, or does not answer the question.
    #[error("{}: {}", told(what), told(detail))]
    Malformed {
        /// What was judged.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The bytes do not have the digest that something signed, or a lock, gives for them.
    #[error("{} is not the file that {} names: expected {expected}, got {actual}", told(what), told(said_by))]
    WrongDigest {
        /// The file.
        what: String,
        /// The document that gives the digest.
        said_by: String,
        /// The digest that it gives.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// The file had other bytes when it was first accepted.
    #[error(
        "{} was {accepted} when it was first mirrored, and the signed list now says {listed}; the mirror keeps the \
         old one",
        told(what)
    )]
    Changed {
        /// The file.
        what: String,
        /// The digest that was accepted first.
        accepted: Digest,
        /// The digest in the signed list now.
        listed: Digest,
    },
    /// A signed index does not list what was asked for.
    #[error("{} is not listed in {}", told(what), told(index))]
    NotListed {
        /// What was asked for.
        what: String,
        /// The index that was searched.
        index: String,
    },
    /// An object is not in the repository, so nothing can be said about it. A shallow or partial clone lacks many
    /// objects.
    #[error("{} cannot be judged here: {}", told(what), told(detail))]
    Missing {
        /// What was to be judged.
        what: String,
        /// What is missing.
        detail: String,
    },
    /// A person asked to stop.
    #[error("judging {} was stopped", told(what))]
    Cancelled {
        /// What was judged.
        what: String,
    },
    /// A repository cannot be opened or read.
    #[error("repository {path} cannot be read")]
    Repository {
        /// The repository.
        path: PathBuf,
        /// libgit2's error.
        #[source]
        source: git2::Error,
    },
    /// A file on this machine cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl Refusal {
    /// What a person can do about it, as a sentence of its own.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Signatures { find, .. } => find.clone(),
            Self::NoCertificates { find, .. } => Some(find.clone()),
            _ => None,
        }
    }

    /// Whether the input is refused; `false` if this machine could not judge it.
    pub fn is_verdict(&self) -> bool {
        !matches!(
            self,
            Self::Io { .. } | Self::Cancelled { .. } | Self::Repository { .. } | Self::Missing { .. }
        )
    }
}

/// A text from outside (a name, a list, a parser's error), escaped and shortened for a sentence.
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
