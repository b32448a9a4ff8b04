//! What the catalog remembers for the farm, by type: each fact says its kind and its name, so that no two can be mixed up
//! and every name is made in one place.

use std::collections::BTreeMap;

use hab_mirror::{Keep as _, KeepError, MirrorError, kinds};
use hab_oci::Digest;
use hab_store::Mirrored;

use crate::error::FarmError;
use crate::keep::StoreKeep;

/// The kind of [`Fact::AcceptedRelease`], which exports name.
pub const ACCEPTED_RELEASE: &str = "debian-in-release-accepted";

/// Something that is remembered: what is said of it is a digest, with the time at which it was first said.
#[derive(Clone, Copy, Debug)]
pub enum Fact<'a> {
    /// The InRelease of a suite that its policy accepted.
    AcceptedRelease { suite: &'a str },
    /// The object of a tag that a policy accepted.
    AcceptedTag { project: &'a str, tag: &'a str },
    /// The object of a tag that a person took unsigned: it does not stand in the way of a signed one.
    UnsignedTag { project: &'a str, tag: &'a str },
    /// The value of a ref that was accepted by a policy with certificates.
    AcceptedRef { project: &'a str, reference: &'a str, judged: &'a JudgedBy },
    /// Up to which commit a project's history was verified.
    VerifiedHistory { judged: &'a JudgedBy, project: &'a str },
    /// Where a project's ref journal ended.
    RefJournal { project: &'a str },
    /// The ref journal of a project that was removed.
    RemovedJournal { project: &'a str },
    /// The ref journal that came with an export: what its farm saw, not what was seen here.
    ImportedJournal { project: &'a str },
    /// An export that was taken in.
    Import { manifest: &'a Digest },
    /// The archive of a commit's tree.
    ExportedTree { project: &'a str, commit: &'a str },
    /// A decision that this farm made.
    Decision(&'a Digest),
    /// A good signature.
    Signature(&'a Digest),
    /// What a key signed.
    SignedBy(&'a str),
    /// On which day which keys of a policy were looked for.
    CertificatesLookedFor { policy: &'a str },
    /// A file of a release.
    ReleaseFile { project: &'a str, version: &'a str, file: &'a str },
    /// A source of Bitcoin Core's depends packages.
    DependsSource { file: &'a str },
    /// A line of a crates index that an export offered.
    OfferedCrateLine { line: &'a str },
}

/// By which policy and with which certificates something was judged: another certificate, or another revision of one,
/// may be a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedBy {
    policy: Digest,
    certificates: Digest,
}

impl JudgedBy {
    /// By the digests of both.
    pub fn new(policy: Digest, certificates: Digest) -> Self {
        Self { policy, certificates }
    }
}

impl Fact<'_> {
    /// The kind under which the catalog has it.
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

    /// The name under which the catalog has it, unlike that of any other fact of its kind.
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

/// The farm's memory. Facts are only ever added, so that what was said once can be shown later.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    keep: &'a StoreKeep,
}

impl<'a> Facts<'a> {
    /// What this store remembers.
    pub fn new(keep: &'a StoreKeep) -> Self {
        Self { keep }
    }

    /// What was last said of it, unless that was withdrawn.
    pub fn latest(self, fact: &Fact<'_>) -> Result<Option<Digest>, FarmError> {
        let name = fact.name();
        self.keep.latest(fact.kind(), &name).map_err(|source| failed(name, source))
    }

    /// Says it now, of so many bytes; 0 where it is not of bytes. Whether that is news.
    pub fn remember(self, fact: &Fact<'_>, digest: &Digest, size: u64) -> Result<bool, FarmError> {
        let name = fact.name();
        self.keep.say(fact.kind(), &name, digest, size).map_err(|source| failed(name, source))
    }

    /// Takes back what was last said of it, if anything was.
    pub fn withdraw(self, fact: &Fact<'_>) -> Result<(), FarmError> {
        let name = fact.name();
        self.keep.withdraw(fact.kind(), &name).map_err(|source| failed(name, source))
    }

    /// All that was ever said of it, the first first.
    pub fn history(self, fact: &Fact<'_>) -> Result<Vec<Mirrored>, FarmError> {
        let name = fact.name();
        self.keep.history(fact.kind(), &name).map_err(|source| failed(name, source))
    }

    /// Which values of a project's refs were accepted, by the names of [`Fact::AcceptedRef`]: read once for all refs,
    /// because one by one many refs would take hours.
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

/// Something of which only the newest text counts, and which costs only time when it is lost.
#[derive(Clone, Copy, Debug)]
pub enum Position<'a> {
    /// How many bytes of disk a build of a recipe needed; with a toolchain that has to be unpacked first it is more.
    DiskNeeded { recipe: &'a str, unpacked: bool },
    /// When a rule of an upstream was last tried, and how that went.
    ImageSync { upstream: &'a str, repository: &'a str, rule: &'a str },
}

impl Position<'_> {
    /// The name under which the catalog has it.
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

    /// Catalogs of earlier programs have these kinds and names; with others, what they remember would be forgotten.
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
