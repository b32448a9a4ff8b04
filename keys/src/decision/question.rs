//! The questions that can be asked, and their answers from documents.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::policy::RuleKind;
use crate::tag::{Claimed, VerifiedTag};
use crate::{
    Attestations, Chain, ChainObserver, Examined, Judge, ListKind, Refusal, SignatureSeen, Submitted,
    VerifiedFile, VerifiedSums, chain, sums,
};

/// A question. The bytes that it is about are the evidence's documents, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// Is this tag signed as the policy demands? Documents: the tag object, its commit.
    Tag {
        /// The project's name.
        project: String,
        /// The tag's name.
        name: String,
        /// The tag object's id.
        id: String,
        /// The commit's id.
        commit: String,
    },
    /// Is this file signed? Documents: the file, and its signature if that is detached.
    File {
        /// The file's name.
        name: String,
        /// The signature file's name; `None` for a clearsigned file.
        signature: Option<String>,
    },
    /// Is this list of hashes signed? Documents: the list, its signatures.
    Sums {
        /// The list's name.
        name: String,
        /// The signature files' names; empty for a file of clearsigned lists.
        signatures: Vec<String>,
    },
    /// Is this history signed back to the trusted root? Document: the newest commit. The other commits are in the
    /// repository, which is read again when the decision is made again.
    Commits {
        /// The project's name.
        project: String,
        /// The path of the repository.
        repository: PathBuf,
        /// The newest commit's id.
        tip: String,
    },
    /// Do the builders of this version agree? Documents: list and signature, for each builder and kind.
    Attestations {
        /// The version.
        version: String,
        /// Builders and lists, in the documents' order.
        submitted: Vec<(String, ListKind)>,
        /// The commit that they were read from; `None` if they were read from a folder.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        commit: Option<String>,
    },
}

impl Question {
    /// The names of the documents, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::Tag { id, commit, .. } => vec![format!("tag object {id}"), format!("commit {commit}")],
            Self::Commits { tip, .. } => vec![format!("commit {tip}")],
            Self::File { name, signature } => [name].into_iter().chain(signature).cloned().collect(),
            Self::Sums { name, signatures } => [name].into_iter().chain(signatures).cloned().collect(),
            Self::Attestations { version, submitted, .. } => submitted
                .iter()
                .map(|(builder, kind)| format!("{version}/{builder}/{}", kind.file()))
                .flat_map(|name| [name.clone(), format!("{name}.asc")])
                .collect(),
        }
    }

    /// The kind of requirement that decides the question.
    pub(super) fn rule(&self) -> RuleKind {
        match self {
            Self::Tag { .. } => RuleKind::Tag,
            Self::Commits { .. } => RuleKind::CommitChain,
            Self::File { .. } => RuleKind::ArchiveSignature,
            Self::Sums { .. } | Self::Attestations { .. } => RuleKind::SignedHashes,
        }
    }

    pub(super) fn evidence_kind(&self) -> crate::EvidenceKind {
        use crate::EvidenceKind as E;
        match self {
            Self::Tag { .. } => E::Tag,
            Self::Commits { .. } => E::CommitChain,
            Self::File { .. } => E::ArchiveSignature,
            Self::Sums { .. } => E::SignedHashes,
            Self::Attestations { .. } => E::Attestations,
        }
    }

    /// Answers the question: accepted, or why not.
    pub(super) fn answer(
        &self,
        documents: &[Vec<u8>],
        judge: &Judge<'_>,
        observer: &dyn ChainObserver,
    ) -> Result<(), Refusal> {
        let wrong = || Refusal::Unreadable {
            what: self.to_string(),
            detail: format!("{} documents do not fit the question", documents.len()),
        };
        if documents.len() != self.names().len() {
            return Err(wrong());
        }
        match self {
            Self::Tag { .. } => {
                let claimed = self.claimed(documents).ok_or_else(wrong)?;
                VerifiedTag::verify(claimed, judge).map(drop)
            }
            Self::Commits { project, repository, tip } => {
                let chain = Chain { project, repository, tip, verified: None, first_failure: true };
                chain::verify(chain, judge, observer).map(drop)
            }
            Self::File { name, signature: None } => {
                VerifiedFile::clearsigned(name, &documents[0], judge).map(drop)
            }
            Self::File { name, signature: Some(file) } => {
                VerifiedFile::detached(name, &documents[0], (file, &documents[1]), judge).map(drop)
            }
            Self::Sums { name, signatures } => {
                let names = signatures.iter().map(String::as_str);
                let pairs: Vec<_> = names.zip(documents[1..].iter().map(Vec::as_slice)).collect();
                VerifiedSums::verify(name, &documents[0], &pairs, judge).map(drop)
            }
            Self::Attestations { version, .. } => {
                Attestations::judge(version, &self.submitted(documents), judge)?.check_accepted()
            }
        }
    }

    /// Every signature, whatever the answer is.
    pub(super) fn signatures(&self, documents: &[Vec<u8>], judge: &Judge<'_>) -> Vec<SignatureSeen> {
        use crate::judge::Signed;
        let Some(first) = documents.first() else { return Vec::new() };
        match self {
            Self::Tag { .. } => {
                let claimed = self.claimed(documents);
                claimed.and_then(|c| crate::tag::inspect(c, judge).ok()).unwrap_or_default()
            }
            Self::Commits { tip, .. } => {
                Examined::commit(tip, first, judge).map(|e| e.signatures).unwrap_or_default()
            }
            Self::File { name, signature: None } => {
                judge.clearsigned(name, first, u64::MAX).map(|(_, seen)| seen).unwrap_or_default()
            }
            Self::Sums { name, signatures } if signatures.is_empty() => {
                sums::inspect(name, first, judge).unwrap_or_default()
            }
            Self::File { .. } | Self::Sums { .. } => documents[1..]
                .iter()
                .flat_map(|s| judge.detached("a signature", Signed::File, s, first).unwrap_or_default())
                .collect(),
            Self::Attestations { version, .. } => {
                let judged = Attestations::judge(version, &self.submitted(documents), judge);
                judged.map(|a| a.evidence.signatures).unwrap_or_default()
            }
        }
    }

    fn claimed<'a>(&'a self, documents: &'a [Vec<u8>]) -> Option<Claimed<'a>> {
        let (Self::Tag { project, name, id, commit }, [object, bytes]) = (self, documents) else {
            return None;
        };
        Some(Claimed { project, name, id, object: Some(object), commit: (commit, bytes) })
    }

    /// The builders' lists and signatures, from the documents.
    pub fn submitted(&self, documents: &[Vec<u8>]) -> Vec<Submitted> {
        let Self::Attestations { submitted, .. } = self else { return Vec::new() };
        let pairs = submitted.iter().zip(documents.chunks_exact(2));
        pairs
            .map(|((builder, kind), pair)| Submitted {
                builder: builder.clone(),
                kind: *kind,
                sums: pair[0].clone(),
                signature: pair[1].clone(),
            })
            .collect()
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag { project, name, .. } => write!(f, "tag {name} of {project}"),
            Self::Commits { project, tip, .. } => write!(f, "the history of {project} up to {tip}"),
            Self::File { name, .. } => write!(f, "file {name}"),
            Self::Sums { name, .. } => write!(f, "list of hashes {name}"),
            Self::Attestations { version, .. } => write!(f, "the attestations of {version}"),
        }
    }
}

/// An observer that ignores progress.
pub(super) struct Silent;

impl ChainObserver for Silent {
    fn looked_at(&self, _: usize, _: usize, _: Option<&str>) {}
    fn cancelled(&self) -> bool {
        false
    }
}
