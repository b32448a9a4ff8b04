//! The judge of the house: who signed something, and whether the policy accepts it.
//!
//! Layer: between `mirror`, which provides the bytes, and `builder`, which accepts only what this crate makes. Only
//! this crate can construct a [`VerifiedSource`], so unverified source cannot reach a sandbox: it would not compile.
//! Synchronous; it reads certificates, policies and git repositories from files, and gets everything else as arguments.
//!
//! Start reading at [`Policy`], which says what is demanded, and [`Judge`], which judges signatures by it. Things to
//! judge: [`tag::VerifiedTag`], [`chain::VerifiedChain`], [`VerifiedSums`], [`Attestations`], [`VerifiedFile`] and
//! [`debian::VerifiedRelease`]; for images of other registries, [`ImagePolicy`]. Results: [`VerifiedSource`] for the
//! builder, [`Evidence`] for everybody.

pub mod attestations;
mod blocks;
mod certificates;
pub mod chain;
mod cosign;
pub mod debian;
mod decision;
mod error;
mod evidence;
mod examine;
mod file;
mod git_tree;
mod judge;
mod object;
mod openpgp;
#[doc(hidden)]
pub mod parsers;
pub mod policy;
pub mod precedent;
mod slim;
mod source;
mod ssh;
mod standing;
mod sums;
pub mod tag;
mod usable;
mod wkd;

pub use attestations::{
    Attestations, Attester, FileReport, ListKind, ListReport, Outcome, Submitted, read as read_attestations,
    read_commit as read_attestations_of,
};
pub use certificates::{CertificateImport, Certificates};
pub use chain::{Chain, ChainObserver, RefusedChain, VerifiedChain};
pub use cosign::{ImageKey, ImageKeyError, ImagePolicy, ImageSignature};
pub use decision::{Decision, Question};
pub use error::Refusal;
pub use evidence::{Basis, Document, Evidence, EvidenceKind, PolicyRef, SignatureSeen, Verdict};
pub use examine::Examined;
pub use file::VerifiedFile;
pub use judge::{FirstSeen, Judge, NothingSeen};
pub use policy::{KeyId, Pin, Policy, PolicyError, RuleKind};
pub use sequoia_openpgp::Fingerprint;
pub use source::{SourceFile, SourceKind, Unpack, VerifiedSource};
pub use standing::KeyState;
pub use sums::{HashList, VerifiedSums};
pub use wkd::KeyDirectory;
