//! A decision as a document: the question, the bytes, the policy and the certificates that it rests on, and the answer.
//! With the stored bytes, it can be decided again years later, without a network.

mod question;

use std::collections::BTreeMap;
use std::time::SystemTime;

use hab_oci::{Digest, json};
use serde::{Deserialize, Serialize};

pub use self::question::Question;
use crate::judge::rfc3339;
use crate::{
    Basis, Certificates, ChainObserver, Document, Evidence, FirstSeen, Judge, Policy, Refusal, SignatureSeen,
    Verdict,
};

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The version of this document's format: 1.
    pub schema: u32,
    /// The question.
    pub question: Question,
    /// The time of the decision, RFC 3339.
    pub at: String,
    /// The evidence that it rests on.
    pub evidence: Evidence,
    /// The certificates that were available, each as one document.
    pub certificates: Vec<Document>,
    /// Why it was refused; `None` if it was accepted.
    pub refusal: Option<String>,
}

/// The bytes that a decision rests on, to be stored beside it.
pub type Bytes = Vec<(Document, Vec<u8>)>;

impl Decision {
    /// Answers a question over `documents` and records the evidence.
    pub fn make(
        question: Question,
        documents: &[Vec<u8>],
        judge: &Judge<'_>,
    ) -> Result<(Self, Bytes), Refusal> {
        Self::make_telling(question, documents, judge, &question::Silent)
    }

    /// Like [`Decision::make`], and reports progress to `observer` where the answer takes time.
    pub fn make_telling(
        question: Question,
        documents: &[Vec<u8>],
        judge: &Judge<'_>,
        observer: &dyn ChainObserver,
    ) -> Result<(Self, Bytes), Refusal> {
        let answer = question.answer(documents, judge, observer);
        Self::record(question, documents, judge, answer)
    }

    /// Records a question that `judge` has already answered, with its evidence.
    pub fn record(
        question: Question,
        documents: &[Vec<u8>],
        judge: &Judge<'_>,
        answer: Result<(), Refusal>,
    ) -> Result<(Self, Bytes), Refusal> {
        let names = question.names();
        let met =
            judge.policy().requirement(question.rule()).map(|r| r.name.clone()).filter(|_| answer.is_ok());
        let mut signatures = question.signatures(documents, judge);
        if let Some(quorum) = judge.policy().requirement(question.rule()).and_then(|r| r.rule.quorum()) {
            judge.set_aside(quorum, &mut signatures);
        }
        let listed = names.iter().zip(documents).map(|(name, bytes)| Document::of(name, bytes));
        let evidence = Evidence {
            kind: question.evidence_kind(),
            asked: question.to_string(),
            policy: Some(judge.policy().reference()),
            met: met.into_iter().collect(),
            documents: listed.collect(),
            signatures,
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
        // serde_json sorts a value's keys, and all numbers here are integers.
        serde_json::to_value(self).map(|value| value.to_string()).unwrap_or_default()
    }

    /// Parses a decision.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let unreadable = |detail| Refusal::Unreadable { what: "the decision".to_owned(), detail };
        let this: Self = json::read(text, json::Shape::Free).map_err(|e| unreadable(e.to_string()))?;
        if this.schema == 1 {
            Ok(this)
        } else {
            Err(unreadable(format!("its schema is {}, not 1", this.schema)))
        }
    }

    /// Decides again, for the same time, by the same policy and certificates, over bytes that `read` finds by digest.
    /// An error if the result differs from this decision; the wording may differ, because a later program may use other
    /// words.
    pub fn again(
        &self,
        read: &dyn Fn(&Digest) -> Result<Vec<u8>, Refusal>,
        observer: &dyn ChainObserver,
    ) -> Result<Self, Refusal> {
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
        let (again, _) = Self::make_telling(self.question.clone(), &documents, &judge, observer)?;
        if again.says_the_same(self) {
            return Ok(again);
        }
        let say = |d: &Self| d.refusal.clone().unwrap_or_else(|| "accepted".to_owned());
        Err(Refusal::Malformed {
            what: "the decision".to_owned(),
            detail: if again.refusal == self.refusal {
                "decided again from the same bytes, it has other evidence".to_owned()
            } else {
                format!("decided again from the same bytes: {}; it says: {}", say(&again), say(self))
            },
        })
    }
}

impl Decision {
    /// Whether both give the same answer from the same evidence. It compares which signatures count, but not how
    /// verdicts are worded.
    fn says_the_same(&self, other: &Self) -> bool {
        let weighed = |decision: &Self| {
            let seen = decision.evidence.signatures.iter();
            let good = |s: &SignatureSeen| matches!(s.verdict, Verdict::Good | Verdict::ExpiredSince(_));
            let mut all: Vec<_> =
                seen.map(|s| (s.digest.clone(), good(s).then(|| s.key.clone()), s.made.clone())).collect();
            all.sort();
            all
        };
        let (mine, theirs) = (&self.evidence, &other.evidence);
        self.question == other.question
            && self.at == other.at
            && self.refusal.is_some() == other.refusal.is_some()
            && self.certificates == other.certificates
            && (&mine.kind, &mine.policy, &mine.met) == (&theirs.kind, &theirs.policy, &theirs.met)
            && mine.documents == theirs.documents
            && weighed(self) == weighed(other)
    }
}

/// The times at which signatures were first seen, as a decision records them.
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
