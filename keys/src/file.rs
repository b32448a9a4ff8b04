//! Judges a file and its signature: detached beside it, or clearsigned around it.

use crate::judge::Signed;
use crate::policy::{Requirement, Rule, RuleKind};
use crate::{Document, Evidence, EvidenceKind, Judge, Refusal};

/// The largest clearsigned text that is read, in bytes.
const CLEARSIGNED: u64 = 512 << 20;

/// A file that a policy accepted.
#[derive(Clone, Debug)]
pub struct VerifiedFile {
    content: Option<Vec<u8>>,
    evidence: Evidence,
}

impl VerifiedFile {
    /// Judges `bytes` by a file of detached signatures.
    pub fn detached(
        name: &str,
        bytes: &[u8],
        signature: (&str, &[u8]),
        judge: &Judge<'_>,
    ) -> Result<Self, Refusal> {
        let requirement = judge.requirement(RuleKind::ArchiveSignature, name)?;
        let seen = judge.detached(name, Signed::File, signature.1, bytes)?;
        if let Rule::ArchiveSignature(quorum) = &requirement.rule {
            judge.quorum(name, quorum, &seen)?;
        }
        let documents = vec![Document::of(name, bytes), Document::of(signature.0, signature.1)];
        Ok(Self { content: None, evidence: evidence((name, requirement), judge, documents, seen) })
    }

    /// Judges a clearsigned file.
    pub fn clearsigned(name: &str, bytes: &[u8], judge: &Judge<'_>) -> Result<Self, Refusal> {
        let requirement = judge.requirement(RuleKind::ArchiveSignature, name)?;
        let (text, seen) = judge.clearsigned(name, bytes, CLEARSIGNED)?;
        if let Rule::ArchiveSignature(quorum) = &requirement.rule {
            judge.quorum(name, quorum, &seen)?;
        }
        let documents = vec![Document::of(name, bytes)];
        Ok(Self { content: Some(text), evidence: evidence((name, requirement), judge, documents, seen) })
    }

    /// Compares `bytes` with the digest that the policy pins for the file `name`.
    pub fn pinned(name: &str, bytes: &[u8], judge: &Judge<'_>) -> Result<Self, Refusal> {
        let policy = judge.policy();
        let missing = || Refusal::WrongPolicy {
            what: name.to_owned(),
            policy: policy.name().to_owned(),
            kind: RuleKind::Digest,
        };
        let requirement = policy.requirement(RuleKind::Digest).ok_or_else(missing)?;
        let Rule::Digest(files) = &requirement.rule else { return Err(missing()) };
        let expected = files.get(name).ok_or_else(|| Refusal::NotListed {
            what: name.to_owned(),
            index: format!("policy {}", policy.name()),
        })?;
        let document = Document::of(name, bytes);
        if document.digest != *expected {
            return Err(Refusal::WrongDigest {
                what: name.to_owned(),
                said_by: format!("policy {}", policy.name()),
                expected: expected.clone(),
                actual: document.digest,
            });
        }
        let mut evidence = evidence((name, requirement), judge, vec![document], Vec::new());
        evidence.kind = EvidenceKind::Digest;
        Ok(Self { content: None, evidence })
    }

    /// The signed text of a clearsigned file, exactly; `None` for other files.
    pub fn content(&self) -> Option<&[u8]> {
        self.content.as_deref()
    }

    /// Why it was accepted.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}

fn evidence(
    (name, requirement): (&str, &Requirement),
    judge: &Judge<'_>,
    documents: Vec<Document>,
    signatures: Vec<crate::SignatureSeen>,
) -> Evidence {
    Evidence {
        kind: EvidenceKind::ArchiveSignature,
        asked: format!("file {name}"),
        policy: Some(judge.policy().reference()),
        met: vec![requirement.name.clone()],
        documents,
        signatures,
    }
}
