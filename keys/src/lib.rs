//! Who signed this, and does the policy accept it: the judge of the house.
//!
//! Layer: between `mirror`, whose bytes it is given, and `builder`, which accepts nothing but what it makes. Only this
//! crate can construct a [`VerifiedSource`], so source that was not verified cannot reach a sandbox: it would not
//! compile. Synchronous; it reads certificates and policies from files and everything else from its arguments.
//!
//! Start reading at [`VerifiedSource`], then the three ways to one: [`debian::VerifiedRelease`],
//! [`tag::VerifiedTag`] and [`VerifiedSource::pinned`]. [`Policy`] says what is demanded, [`Evidence`] what was found.

mod certificates;
pub mod debian;
mod error;
mod evidence;
mod git_tree;
mod openpgp;
mod policy;
mod source;
pub mod tag;

pub use certificates::Certificates;
pub use error::Refusal;
pub use evidence::{Document, Evidence, EvidenceKind, PolicyRef, SignatureSeen, Verdict};
pub use policy::{Policy, PolicyError, RequirementKind};
pub use source::{SourceFile, SourceKind, Unpack, VerifiedSource};
