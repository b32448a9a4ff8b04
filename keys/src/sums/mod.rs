//! Judges signed lists of hashes: `SHA256SUMS` with detached signatures beside it, or one or more clearsigned lists in
//! a file.

mod list;

use std::collections::{BTreeMap, BTreeSet};

use hab_oci::Digest;

pub use list::HashList;

use crate::judge::Signed;
use crate::policy::{KeyId, Quorum, Rule, RuleKind};
use crate::{Document, Evidence, EvidenceKind, Judge, Refusal, SignatureSeen, blocks};

/// The most bytes of text in one signature; a larger text is no list.
const TEXT: u64 = 8 << 20;

/// A list whose signatures a policy accepted.
#[derive(Clone, Debug)]
pub struct VerifiedSums {
    list: HashList,
    evidence: Evidence,
}

impl VerifiedSums {
    /// Judges `bytes` by `signatures`, each a file of one or more detached signatures. Without signatures, `bytes` must
    /// be clearsigned lists.
    pub fn verify(
        name: &str,
        bytes: &[u8],
        signatures: &[(&str, &[u8])],
        judge: &Judge<'_>,
    ) -> Result<Self, Refusal> {
        if signatures.is_empty() {
            return Self::clearsigned(name, bytes, judge);
        }
        let requirement = judge.requirement(RuleKind::SignedHashes, name)?;
        let mut seen = Vec::new();
        let mut documents = vec![Document::of(name, bytes)];
        for (file, signature) in signatures {
            seen.extend(judge.detached(file, Signed::File, signature, bytes)?);
            documents.push(Document::of(file, signature));
        }
        if let Rule::SignedHashes(quorum) = &requirement.rule {
            judge.quorum(name, quorum, &seen)?;
        }
        let malformed = |detail| Refusal::Malformed { what: name.to_owned(), detail };
        let list = HashList::parse(bytes).map_err(malformed)?;
        Ok(Self { list, evidence: evidence(name, &requirement.name, judge, documents, seen) })
    }

    /// Judges one or more clearsigned lists in one file, which may differ. A file is accepted if enough signers name
    /// the same hash for it. If signers that count name different hashes, the file is not accepted, however many agree
    /// on one.
    fn clearsigned(name: &str, bytes: &[u8], judge: &Judge<'_>) -> Result<Self, Refusal> {
        let requirement = judge.requirement(RuleKind::SignedHashes, name)?;
        let Rule::SignedHashes(quorum) = &requirement.rule else { return Err(judge.unsigned(name)) };
        let parts = parts(name, bytes, judge)?;
        let seen: Vec<_> = parts.iter().flat_map(|part| part.seen.iter().cloned()).collect();
        let list = agreed(&parts, quorum, judge);
        if list.entries().is_empty() {
            judge.quorum(name, quorum, &seen)?;
            let detail = format!("its lists have no file whose hash {} signers agree on", quorum.threshold);
            return Err(Refusal::Malformed { what: name.to_owned(), detail });
        }
        let documents = vec![Document::of(name, bytes)];
        Ok(Self { list, evidence: evidence(name, &requirement.name, judge, documents, seen) })
    }

    /// The list.
    pub fn list(&self) -> &HashList {
        &self.list
    }

    /// Why it was accepted.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}

/// Every signature of the clearsigned lists in `bytes`.
pub(crate) fn inspect(name: &str, bytes: &[u8], judge: &Judge<'_>) -> Result<Vec<SignatureSeen>, Refusal> {
    Ok(parts(name, bytes, judge)?.into_iter().flat_map(|part| part.seen).collect())
}

/// One clearsigned list.
struct Part {
    list: HashList,
    seen: Vec<SignatureSeen>,
}

fn parts(name: &str, bytes: &[u8], judge: &Judge<'_>) -> Result<Vec<Part>, Refusal> {
    let unreadable = |detail| Refusal::Unreadable { what: name.to_owned(), detail };
    let messages = blocks::clearsigned_each(bytes).map_err(unreadable)?;
    if messages.is_empty() {
        return Err(judge.unsigned(name));
    }
    let mut parts = Vec::new();
    for (number, message) in messages.into_iter().enumerate() {
        let (text, seen) = judge.clearsigned(name, message, TEXT)?;
        let malformed = |e| Refusal::Malformed {
            what: name.to_owned(),
            detail: format!("its clearsigned list {}: {e}", number + 1),
        };
        parts.push(Part { list: HashList::parse(&text).map_err(malformed)?, seen });
    }
    Ok(parts)
}

/// The hashes that enough signers agree on. A part that no counting key signed is ignored.
fn agreed(parts: &[Part], quorum: &Quorum, judge: &Judge<'_>) -> HashList {
    let mut said: BTreeMap<&String, BTreeMap<&Digest, BTreeSet<&KeyId>>> = BTreeMap::new();
    for part in parts {
        let signers = judge.signers(quorum, &part.seen);
        if signers.is_empty() {
            continue;
        }
        for (name, digest) in part.list.all() {
            said.entry(name).or_default().entry(digest).or_default().extend(&signers);
        }
    }
    let mut list = HashList::default();
    for (name, sides) in said {
        let disputed = sides.len() > 1;
        for (digest, signers) in sides {
            if disputed || signers.len() >= quorum.threshold {
                list.add(name.clone(), digest.clone());
            }
        }
    }
    list
}

fn evidence(
    name: &str,
    met: &str,
    judge: &Judge<'_>,
    documents: Vec<Document>,
    signatures: Vec<SignatureSeen>,
) -> Evidence {
    Evidence {
        kind: EvidenceKind::SignedHashes,
        asked: format!("list of hashes {name}"),
        policy: Some(judge.policy().reference()),
        met: vec![met.to_owned()],
        documents,
        signatures,
    }
}
