//! A decision as a document: what was asked, on which bytes, by which policy and certificates, and what was decided. From
//! the kept bytes it can be decided again, years later and without a network.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use hab_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::judge::rfc3339;
use crate::policy::RuleKind;
use crate::tag::{Claimed, VerifiedTag};
use crate::{
    Attestations, Basis, Certificates, Chain, ChainObserver, Document, Evidence, Examined, FirstSeen, Judge,
    ListKind, Policy, Refusal, SignatureSeen, Submitted, VerifiedFile, VerifiedSums, chain,
};

/// What was asked. The bytes are the evidence's documents, in its order.
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
    /// Is this file? Documents: the file, and its signature where it is detached.
    File {
        /// The file's name.
        name: String,
        /// The signature file's name; none for a clearsigned file.
        signature: Option<String>,
    },
    /// Is this list of hashes? Documents: the list, its signatures.
    Sums {
        /// The list's name.
        name: String,
        /// The signature files' names.
        signatures: Vec<String>,
    },
    /// Is this history signed back to the trusted root? Document: the newest commit. The others lie in the repository, which
    /// is read again when the decision is made again.
    Commits {
        /// The project's name.
        project: String,
        /// Where the repository was.
        repository: PathBuf,
        /// The newest commit's id.
        tip: String,
    },
    /// Do the builders of this version agree? Documents: list and signature, for each builder and kind.
    Attestations {
        /// The version.
        version: String,
        /// Builder and list, in the documents' order.
        submitted: Vec<(String, ListKind)>,
    },
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The form of this document: 1.
    pub schema: u32,
    /// What was asked.
    pub question: Question,
    /// When it was decided, RFC 3339.
    pub at: String,
    /// On what.
    pub evidence: Evidence,
    /// The certificates at hand, each as one document.
    pub certificates: Vec<Document>,
    /// Why not; none when it was accepted.
    pub refusal: Option<String>,
}

/// Bytes that a decision rests on, to be kept beside it.
pub type Bytes = Vec<(Document, Vec<u8>)>;

impl Decision {
    /// Answers a question over `documents` and says on what.
    pub fn make(
        question: Question,
        documents: &[Vec<u8>],
        judge: &Judge<'_>,
    ) -> Result<(Self, Bytes), Refusal> {
        let answer = question.answer(documents, judge);
        Self::record(question, documents, judge, answer)
    }

    /// Says on what a question was answered by `judge` already.
    pub fn record(
        question: Question,
        documents: &[Vec<u8>],
        judge: &Judge<'_>,
        answer: Result<(), Refusal>,
    ) -> Result<(Self, Bytes), Refusal> {
        let names = question.names();
        let met =
            judge.policy().requirement(question.rule()).map(|r| r.name.clone()).filter(|_| answer.is_ok());
        let listed = names.iter().zip(documents).map(|(name, bytes)| Document::of(name, bytes));
        let evidence = Evidence {
            kind: question.evidence_kind(),
            asked: question.to_string(),
            policy: Some(judge.policy().reference()),
            met: met.into_iter().collect(),
            documents: listed.collect(),
            signatures: question.signatures(documents, judge),
        };
        let mut kept: Bytes = evidence.documents.iter().cloned().zip(documents.iter().cloned()).collect();
        let mut certificates = Vec::new();
        for (name, bytes) in judge.certificates.exported()? {
            let document = Document::of(&name, &bytes);
            certificates.push(document.clone());
            kept.push((document, bytes));
        }
        let text = judge.policy().text().as_bytes();
        kept.push((Document::of(&format!("policy {}", judge.policy().name()), text), text.to_vec()));
        let refusal = match answer {
            Ok(()) => None,
            Err(e) if e.is_verdict() => Some(e.to_string()),
            Err(e) => return Err(e),
        };
        let at = rfc3339(judge.now());
        Ok((Self { schema: 1, question, at, evidence, certificates, refusal }, kept))
    }

    /// The document's text: JSON with sorted keys and no white space, so that equal decisions are equal bytes.
    pub fn to_text(&self) -> String {
        // serde_json keeps a value's keys sorted, and numbers here are whole.
        serde_json::to_value(self).map(|value| value.to_string()).unwrap_or_default()
    }

    /// Reads a decision.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let unreadable = |detail| Refusal::Unreadable { what: "the decision".to_owned(), detail };
        let this: Self = serde_json::from_slice(text).map_err(|e| unreadable(e.to_string()))?;
        if this.schema == 1 {
            Ok(this)
        } else {
            Err(unreadable(format!("its schema is {}, not 1", this.schema)))
        }
    }

    /// Decides again, at the same time, by the same policy and certificates, from bytes that `read` finds by digest; and
    /// holds the new decision against this one.
    pub fn again(&self, read: &dyn Fn(&Digest) -> Result<Vec<u8>, Refusal>) -> Result<Self, Refusal> {
        let unreadable = |detail: String| Refusal::Unreadable { what: "the decision".to_owned(), detail };
        let held = |document: &Document| -> Result<Vec<u8>, Refusal> {
            let bytes = read(&document.digest)?;
            let actual = Digest::of(&bytes);
            if actual == document.digest {
                return Ok(bytes);
            }
            Err(Refusal::WrongDigest {
                what: document.name.clone(),
                said_by: "the decision".to_owned(),
                expected: document.digest.clone(),
                actual,
            })
        };
        let reference =
            self.evidence.policy.as_ref().ok_or_else(|| unreadable("it names no policy".to_owned()))?;
        let policy = Document { name: reference.name.clone(), digest: reference.digest.clone(), size: 0 };
        let text = String::from_utf8(held(&policy)?).map_err(|e| unreadable(e.to_string()))?;
        let policy = Policy::parse(&reference.name, &text).map_err(|e| unreadable(e.to_string()))?;
        let certificates: Vec<u8> =
            self.certificates.iter().map(held).collect::<Result<Vec<_>, _>>()?.concat();
        let certificates = Certificates::from_bytes(&certificates);
        let documents = self.evidence.documents.iter().map(held).collect::<Result<Vec<_>, _>>()?;
        let now = time(&self.at).ok_or_else(|| unreadable(format!("{:?} is not a time", self.at)))?;
        let memory = Recorded::of(&self.evidence.signatures);
        let judge = Judge::new(&policy, &certificates, now).remembering(&memory);
        let (again, _) = Self::make(self.question.clone(), &documents, &judge)?;
        if again == *self {
            return Ok(again);
        }
        let say = |d: &Self| d.refusal.clone().unwrap_or_else(|| "accepted".to_owned());
        Err(Refusal::Malformed {
            what: "the decision".to_owned(),
            detail: if again.refusal == self.refusal {
                "decided again from the same bytes, its evidence is another".to_owned()
            } else {
                format!("decided again from the same bytes: {}; it says: {}", say(&again), say(self))
            },
        })
    }
}

impl Question {
    /// The names of the documents, in their order.
    fn names(&self) -> Vec<String> {
        match self {
            Self::Tag { id, commit, .. } => vec![format!("tag object {id}"), format!("commit {commit}")],
            Self::Commits { tip, .. } => vec![format!("commit {tip}")],
            Self::File { name, signature } => [name].into_iter().chain(signature).cloned().collect(),
            Self::Sums { name, signatures } => [name].into_iter().chain(signatures).cloned().collect(),
            Self::Attestations { version, submitted } => submitted
                .iter()
                .map(|(builder, kind)| format!("{version}/{builder}/{}", kind.file()))
                .flat_map(|name| [name.clone(), format!("{name}.asc")])
                .collect(),
        }
    }

    /// Which kind of requirement decides about it.
    fn rule(&self) -> RuleKind {
        match self {
            Self::Tag { .. } => RuleKind::Tag,
            Self::Commits { .. } => RuleKind::CommitChain,
            Self::File { .. } => RuleKind::ArchiveSignature,
            Self::Sums { .. } | Self::Attestations { .. } => RuleKind::SignedHashes,
        }
    }

    fn evidence_kind(&self) -> crate::EvidenceKind {
        use crate::EvidenceKind as E;
        match self {
            Self::Tag { .. } => E::Tag,
            Self::Commits { .. } => E::CommitChain,
            Self::File { .. } => E::ArchiveSignature,
            Self::Sums { .. } => E::SignedHashes,
            Self::Attestations { .. } => E::Attestations,
        }
    }

    /// The answer: accepted, or why not.
    fn answer(&self, documents: &[Vec<u8>], judge: &Judge<'_>) -> Result<(), Refusal> {
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
                let chain = Chain { project, repository, tip, verified: None };
                chain::verify(chain, judge, &Silent).map(drop)
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
                Attestations::judge(version, &self.submitted(documents), judge)?.settle()
            }
        }
    }

    /// Every signature, whatever the answer.
    fn signatures(&self, documents: &[Vec<u8>], judge: &Judge<'_>) -> Vec<SignatureSeen> {
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

    /// What builders handed in, from the documents.
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

/// Nobody is told how far a check has come.
struct Silent;

impl ChainObserver for Silent {
    fn verified(&self, _: usize, _: usize, _: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// What a decision says of when signatures were first seen.
struct Recorded(BTreeMap<Digest, SystemTime>);

impl Recorded {
    fn of(signatures: &[SignatureSeen]) -> Self {
        let seen = signatures.iter().filter(|s| s.basis == Basis::FirstSeen);
        Self(seen.filter_map(|s| Some((s.digest.clone(), time(&s.judged)?))).collect())
    }
}

impl FirstSeen for Recorded {
    fn first_seen(&self, signature: &Digest) -> Option<SystemTime> {
        self.0.get(signature).copied()
    }
}

fn time(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}
