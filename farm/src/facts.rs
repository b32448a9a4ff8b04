//! What the catalog remembers for the farm, as types. Each fact makes its own kind and name, so that no two facts can
//! be confused and every name is made in one place.

use std::collections::BTreeMap;

use hab_mirror::{Keep as _, KeepError, MirrorError, kinds};
use hab_oci::Digest;
use hab_store::Mirrored;

use crate::error::FarmError;
use crate::keep::StoreKeep;

/// The kind of [`Fact::AcceptedRelease`], which exports also write.
pub const ACCEPTED_RELEASE: &str = "debian-in-release-accepted";

/// A name that is remembered. Each of its values is a digest, with the time at which it was first recorded.
#[derive(Clone, Copy, Debug)]
pub enum Fact<'a> {
    /// A suite's InRelease that its policy accepted.
    AcceptedRelease { suite: &'a str },
    /// The object of a tag that a policy accepted.
    AcceptedTag { project: &'a str, tag: &'a str },
    /// The object of a tag that a person accepted unsigned. It does not prevent a signed one later.
    UnsignedTag { project: &'a str, tag: &'a str },
    /// The value of a ref that a policy accepted with certain certificates.
    AcceptedRef { project: &'a str, reference: &'a str, judged: &'a JudgedBy },
    /// The commit up to which a project's history was verified.
    VerifiedHistory { judged: &'a JudgedBy, project: &'a str },
    /// The last line of a project's ref journal.
    RefJournal { project: &'a str },
    /// The ref journal of a project that was removed.
    RemovedJournal { project: &'a str },
    /// The ref journal in an export: it says what the exporting farm saw, not what this farm saw.
    ImportedJournal { project: &'a str },
    /// An export that was imported.
    Import { manifest: &'a Digest },
    /// The archive of a commit's tree.
    ExportedTree { project: &'a str, commit: &'a str },
    /// A decision that this farm made.
    Decision(&'a Digest),
    /// A good signature.
    Signature(&'a Digest),
    /// What a key signed.
    SignedBy(&'a str),
    /// The day on which certificates were searched for a policy's keys, and for which keys.
    CertificatesLookedFor { policy: &'a str },
    /// A file of a release.
    ReleaseFile { project: &'a str, version: &'a str, file: &'a str },
    /// A source of Bitcoin Core's depends packages.
    DependsSource { file: &'a str },
    /// A line of a crates index that an export offered.
    OfferedCrateLine { line: &'a str },
}

/// The policy and the certificates by which something was judged. Both matter, because another certificate, or another
/// revision of one, may be a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedBy {
    policy: Digest,
    certificates: Digest,
}

impl JudgedBy {
    /// Made from the digests of both.
    pub fn new(policy: Digest, certificates: Digest) -> Self {
        Self { policy, certificates }
    }
}

impl Fact<'_> {
    /// The kind under which the catalog stores the fact.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AcceptedRelease { .. } => ACCEPTED_RELEASE,
            Self::AcceptedTag { .. } => "git-tag-accepted",
            Self::UnsignedTag { .. } => "git-tag-taken-unsigned",
            Self::AcceptedRef { .. } => "git-ref-accepted",
            Self::VerifiedHistory { .. } => "chain-verified",
            Self::RefJournal { .. } => "git-journal",
            Self::RemovedJournal { .. } => "git-journal-removed",
            Self::ImportedJournal { .. } => "imported-journal",
            Self::Import { .. } => "imported",
            Self::ExportedTree { .. } => "git-export",
            Self::Decision(_) => "decision",
            Self::Signature(_) => "signature",
            Self::SignedBy(_) => "signed-by",
            Self::CertificatesLookedFor { .. } => "certificates-looked-for",
            Self::ReleaseFile { .. } => kinds::RELEASE_FILE,
            Self::DependsSource { .. } => kinds::DEPENDS_SOURCE,
            Self::OfferedCrateLine { .. } => kinds::CRATE_LINE_OFFERED,
        }
    }

    /// The name under which the catalog stores the fact, unique among facts of its kind.
    pub fn name(&self) -> String {
        match self {
            Self::AcceptedRelease { suite } => (*suite).to_owned(),
            Self::AcceptedTag { project, tag } | Self::UnsignedTag { project, tag } => {
                format!("{project} {tag}")
            }
            Self::AcceptedRef { project, reference, judged: JudgedBy { policy, certificates } } => {
                format!("{project} {reference} {policy} {certificates}")
            }
            Self::VerifiedHistory { judged: JudgedBy { policy, certificates }, project } => {
                format!("{policy} {certificates} {project}")
            }
            Self::RefJournal { project }
            | Self::RemovedJournal { project }
            | Self::ImportedJournal { project } => (*project).to_owned(),
            Self::ExportedTree { project, commit } => format!("{project} {commit}"),
            Self::Import { manifest: digest } | Self::Decision(digest) | Self::Signature(digest) => {
                digest.to_string()
            }
            Self::SignedBy(key) => (*key).to_owned(),
            Self::CertificatesLookedFor { policy } => (*policy).to_owned(),
            Self::ReleaseFile { project, version, file } => {
                hab_mirror::release::release_name(project, version, file)
            }
            Self::DependsSource { file } => (*file).to_owned(),
            Self::OfferedCrateLine { line } => (*line).to_owned(),
        }
    }
}

/// The farm's memory of facts. Facts are only ever added, so that an earlier value can be shown later.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    keep: &'a StoreKeep,
}

impl<'a> Facts<'a> {
    /// The facts of this store.
    pub fn new(keep: &'a StoreKeep) -> Self {
        Self { keep }
    }

    /// The newest value of a fact, unless it was withdrawn.
    pub fn latest(self, fact: &Fact<'_>) -> Result<Option<Digest>, FarmError> {
        let name = fact.name();
        self.keep.latest(fact.kind(), &name).map_err(|source| failed(name, source))
    }

    /// Records a value now, with the size of its bytes, or 0 if it is not a digest of bytes. Returns whether the value
    /// is new.
    pub fn remember(self, fact: &Fact<'_>, digest: &Digest, size: u64) -> Result<bool, FarmError> {
        let name = fact.name();
        self.keep.say(fact.kind(), &name, digest, size).map_err(|source| failed(name, source))
    }

    /// Withdraws the newest value of a fact, if it has one.
    pub fn withdraw(self, fact: &Fact<'_>) -> Result<(), FarmError> {
        let name = fact.name();
        self.keep.withdraw(fact.kind(), &name).map_err(|source| failed(name, source))
    }

    /// All values that a fact ever had, oldest first.
    pub fn history(self, fact: &Fact<'_>) -> Result<Vec<Mirrored>, FarmError> {
        let name = fact.name();
        self.keep.history(fact.kind(), &name).map_err(|source| failed(name, source))
    }

    /// The accepted values of a project's refs, by the names of [`Fact::AcceptedRef`]. Reads them for all refs at once,
    /// because reading one ref at a time would take hours for many refs.
    pub fn accepted_refs(
        self,
        project: &str,
        judged: &JudgedBy,
    ) -> Result<BTreeMap<String, Digest>, FarmError> {
        let kind = Fact::AcceptedRef { project, reference: "", judged }.kind();
        let found = self.keep.names_below(kind, &format!("{project} "));
        let found = found.map_err(|source| failed(project.to_owned(), source))?;
        Ok(found.into_iter().map(|fact| (fact.name, fact.digest)).collect())
    }

    /// The text at a position.
    pub fn position(self, of: &Position<'_>) -> Result<Option<String>, FarmError> {
        self.keep.position(&of.name()).map_err(|source| failed(of.name(), source))
    }

    /// Replaces the text at a position.
    pub fn set_position(self, of: &Position<'_>, text: &str) -> Result<(), FarmError> {
        self.keep.set_position(&of.name(), text).map_err(|source| failed(of.name(), source))
    }
}

fn failed(what: String, source: KeepError) -> FarmError {
    MirrorError::Keep { what, source }.into()
}

/// A name of which only the newest text counts. Losing the text costs only time.
#[derive(Clone, Copy, Debug)]
pub enum Position<'a> {
    /// Bytes of disk that a build of a recipe needed. A build that first unpacks its toolchain needs more.
    DiskNeeded { recipe: &'a str, unpacked: bool },
    /// When a sync rule of an upstream was last tried, and how that went.
    ImageSync { upstream: &'a str, repository: &'a str, rule: &'a str },
}

impl Position<'_> {
    /// The name under which the catalog stores the text.
    pub fn name(&self) -> String {
        match self {
            Self::DiskNeeded { recipe, unpacked: true } => format!("room {recipe}"),
            Self::DiskNeeded { recipe, unpacked: false } => format!("room {recipe} with its toolchain"),
            Self::ImageSync { upstream, repository, rule } => format!("sync {upstream}/{repository} {rule}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Catalogs of earlier programs contain these kinds and names. With other names, the farm would forget what they
    /// hold.
    #[test]
    fn facts_have_the_kinds_and_names_that_earlier_catalogs_have() {
        let (digest, other) = (Digest::of(b"a"), Digest::of(b"b"));
        let judged = JudgedBy::new(digest.clone(), other.clone());
        let (project, tag) = ("bitcoin", "v1");
        let facts = [
            (Fact::AcceptedRelease { suite: "bookworm" }, "debian-in-release-accepted bookworm".to_owned()),
            (Fact::AcceptedTag { project, tag }, "git-tag-accepted bitcoin v1".to_owned()),
            (Fact::UnsignedTag { project, tag }, "git-tag-taken-unsigned bitcoin v1".to_owned()),
            (
                Fact::AcceptedRef { project, reference: "refs/tags/v1", judged: &judged },
                format!("git-ref-accepted bitcoin refs/tags/v1 {digest} {other}"),
            ),
            (
                Fact::VerifiedHistory { judged: &judged, project },
                format!("chain-verified {digest} {other} bitcoin"),
            ),
            (Fact::RefJournal { project }, "git-journal bitcoin".to_owned()),
            (Fact::RemovedJournal { project }, "git-journal-removed bitcoin".to_owned()),
            (Fact::ImportedJournal { project }, "imported-journal bitcoin".to_owned()),
            (Fact::Import { manifest: &digest }, format!("imported {digest}")),
            (Fact::ExportedTree { project, commit: "c0" }, "git-export bitcoin c0".to_owned()),
            (Fact::Decision(&digest), format!("decision {digest}")),
            (Fact::Signature(&digest), format!("signature {digest}")),
            (Fact::SignedBy("AB"), "signed-by AB".to_owned()),
            (Fact::CertificatesLookedFor { policy: "p" }, "certificates-looked-for p".to_owned()),
            (Fact::ReleaseFile { project, version: "1", file: "f" }, "release-file bitcoin/1/f".to_owned()),
            (Fact::DependsSource { file: "f.tar" }, "depends-source f.tar".to_owned()),
            (Fact::OfferedCrateLine { line: "a 1.0.0" }, "crate-line-offered a 1.0.0".to_owned()),
        ];
        let mut names = BTreeSet::new();
        for (fact, name) in facts {
            assert_eq!(format!("{} {}", fact.kind(), fact.name()), name);
            assert!(names.insert(name), "two facts have one name");
        }
    }
}
