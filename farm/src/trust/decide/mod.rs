//! Decisions for people who ask: `hab-build verify`. Everything that a decision rests on is kept, so that it can be
//! made again.

mod commits;
mod files;
mod raw;
mod tags;

use std::path::{Path, PathBuf};

use hab_keys::{
    Attestations, Certificates, Decision, Document, HashList, Question, Refusal, RuleKind, SignatureSeen,
    Submitted, VerifiedFile, VerifiedSums,
};
use hab_oci::Digest;
use hab_store::Blobs;

pub use self::commits::{BadCommits, ChainDecided};
pub use self::files::{Held, HeldFile, is_signature};
pub use self::raw::{JudgedObject, ObjectKind, is_raw};
use crate::error::FarmError;
use crate::facts::{Fact, Facts};
use crate::mirrors::repositories::{Repositories, default_tip};
use crate::progress::Progress;
use crate::trust::Trust;
use crate::trust::history::Telling;

/// The largest file that is judged, in bytes.
const FILE: u64 = 2 << 30;
/// The largest file of signatures that is read, in bytes. A single signature has a lower limit of its own.
const SIGNATURE: u64 = 4 << 20;
/// The largest decision that is read from a file, in bytes. A decision about the lists of 1,000 builders has two
/// million.
const DECISION_SIZE: u64 = 16 << 20;

/// The policy and certificates to judge by.
#[derive(Clone, Debug)]
pub struct By {
    /// The policy's name.
    pub policy: String,
    /// Certificates besides those that the farm has: files and folders.
    pub certificates: Vec<PathBuf>,
}

/// A decision, and where it is kept.
#[derive(Debug, serde::Serialize)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// The digest of its document in the store.
    pub document: Digest,
    /// The table of builders, for a decision about attestations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestations: Option<Attestations>,
    /// The list of hashes, if the decision accepted one.
    #[serde(skip)]
    pub list: Option<HashList>,
    /// What a person can do, if a certificate that is not here could change the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Makes decisions, and keeps them.
#[derive(Clone, Copy)]
pub struct Decisions<'a> {
    /// Judges signatures.
    pub trust: Trust<'a>,
    /// The repositories that may have what is judged.
    pub repositories: Repositories<'a>,
    /// Remembers which decisions this farm made.
    pub facts: Facts<'a>,
    /// Stores the decisions.
    pub blobs: &'a Blobs,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl Decisions<'_> {
    /// Decides a question, keeps everything that the decision rests on, and remembers the good signatures.
    pub fn decide(&self, by: &By, question: Question, documents: &[Vec<u8>]) -> Result<Decided, FarmError> {
        let loaded = self.trust.load(&by.policy, &by.certificates)?;
        let judge = self.trust.judge(&loaded);
        let attestations = match &question {
            Question::Attestations { version, .. } => {
                Some(Attestations::judge(version, &question.submitted(documents), &judge)?)
            }
            _ => None,
        };
        let list = match &question {
            Question::Sums { name, signatures } => {
                let pairs: Vec<_> = signatures
                    .iter()
                    .map(String::as_str)
                    .zip(documents[1..].iter().map(Vec::as_slice))
                    .collect();
                VerifiedSums::verify(name, &documents[0], &pairs, &judge).ok().map(|sums| sums.list().clone())
            }
            _ => None,
        };
        let (decision, bytes) = Decision::make(question, documents, &judge)?;
        let document = self.keep_decision(&decision, &bytes)?;
        let lacks = decision.evidence.signatures.iter().any(SignatureSeen::lacks_certificate);
        let advice = lacks.then(|| loaded.policy.how_to_find());
        Ok(Decided { decision, document, attestations, list, advice })
    }

    /// Keeps a decision and everything that it rests on. Returns the digest of its document.
    fn keep_decision(&self, decision: &Decision, bytes: &[(Document, Vec<u8>)]) -> Result<Digest, FarmError> {
        for (_, bytes) in bytes {
            self.blobs.put(bytes)?;
        }
        let text = decision.to_text();
        let document = self.blobs.put(text.as_bytes())?;
        self.facts.remember(&Fact::Decision(&document), &document, text.len() as u64)?;
        self.trust.memory.saw(&decision.evidence.signatures)?;
        Ok(document)
    }

    /// Judges tag `name` of the repository at `path`.
    pub fn decide_tag(&self, by: &By, path: &Path, name: &str) -> Result<Decided, FarmError> {
        let repository = self.repositories.named(path)?;
        let name = name.strip_prefix("refs/tags/").unwrap_or(name);
        // The question is about the tag's current value, not about an earlier one.
        let tag = repository.tag(name)?.into_iter().next();
        let tag = tag.ok_or_else(|| FarmError::Usage(format!("{} has no tag {name}", path.display())))?;
        let Some(object) = tag.object else {
            let what = format!("tag {name} of {}, which is a lightweight tag,", repository.project());
            return Err(Refusal::Unsigned { what, policy: by.policy.clone() }.into());
        };
        let question = Question::Tag {
            project: repository.project().to_owned(),
            name: tag.name,
            id: tag.id,
            commit: tag.commit_id,
        };
        self.decide(by, question, &[object, tag.commit])
    }

    /// Judges a file by its detached signature; without one, as a clearsigned file.
    pub fn decide_file(&self, by: &By, file: &Path, signature: Option<&Path>) -> Result<Decided, FarmError> {
        let mut documents = vec![read(file, FILE)?];
        if let Some(signature) = signature {
            documents.push(read(signature, SIGNATURE)?);
        }
        let question = Question::File { name: name(file), signature: signature.map(name) };
        self.decide(by, question, &documents)
    }

    /// Checks a file against the digest that the policy pins for it.
    pub fn pinned_file(&self, by: &By, file: &Path) -> Result<Option<VerifiedFile>, FarmError> {
        let policy = self.trust.policies.get(&by.policy)?;
        if policy.requirement(RuleKind::Digest).is_none() {
            return Ok(None);
        }
        let certificates = Certificates::default();
        let judge = self.trust.memory.judge(&policy, &certificates);
        Ok(Some(VerifiedFile::pinned(&name(file), &read(file, FILE)?, &judge)?))
    }

    /// Judges a list of hashes by detached signatures; without any, as one or more clearsigned lists.
    pub fn decide_sums(&self, by: &By, sums: &Path, signatures: &[PathBuf]) -> Result<Decided, FarmError> {
        let mut documents = vec![read(sums, SIGNATURE)?];
        for signature in signatures {
            documents.push(read(signature, SIGNATURE)?);
        }
        let signatures = signatures.iter().map(|s| name(s)).collect();
        self.decide(by, Question::Sums { name: name(sums), signatures }, &documents)
    }

    /// Judges the attestations that the builders of a version submitted. Takes them from a folder, or from the commit
    /// `reference` of a repository, which is a path or a mirrored project's name. A folder that contains the version's
    /// folder counts as a plain folder.
    pub fn decide_attestations(
        &self,
        by: &By,
        place: &Path,
        version: &str,
        reference: Option<&str>,
    ) -> Result<Decided, FarmError> {
        // A version is the name of one folder.
        if version.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(FarmError::Usage(format!("{version:?} is not the name of a version's folder")));
        }
        let (submitted, commit) = if reference.is_none() && place.join(version).is_dir() {
            (hab_keys::read_attestations(place, version)?, None)
        } else {
            let (submitted, commit) = self.attested(place, version, reference)?;
            (submitted, Some(commit))
        };
        let listed = submitted.iter().map(|s| (s.builder.clone(), s.kind)).collect();
        let question = Question::Attestations { version: version.to_owned(), submitted: listed, commit };
        let documents: Vec<_> = submitted.into_iter().flat_map(|s| [s.sums, s.signature]).collect();
        self.decide(by, question, &documents)
    }

    /// The attestations of a version in a commit of a repository, and that commit's id.
    fn attested(
        &self,
        place: &Path,
        version: &str,
        reference: Option<&str>,
    ) -> Result<(Vec<Submitted>, String), FarmError> {
        let shown = place.display();
        let repository = match self.repositories.named(place) {
            // The path is a plain folder without the version.
            Err(FarmError::Mirror(_)) if reference.is_none() => {
                return Err(FarmError::Usage(format!("{} does not exist", place.join(version).display())));
            }
            other => other?,
        };
        let commit = match reference {
            Some(reference) => repository.commit_id(reference),
            None => default_tip(&repository)?,
        };
        let commit = commit.ok_or_else(|| {
            let which =
                reference.map_or_else(|| "at its HEAD; say which with --ref".to_owned(), str::to_owned);
            FarmError::Usage(format!("{shown} has no commit {which}"))
        })?;
        let submitted = hab_keys::read_attestations_of(repository.path(), &commit, version)?;
        let submitted = submitted
            .ok_or_else(|| FarmError::Usage(format!("commit {commit} of {shown} has no folder {version}")))?;
        Ok((submitted, commit))
    }

    /// Makes a decision again from what the store has, without a network, and compares the two. Accepts only a decision
    /// that this farm made: the time, policy and memory that its document states are believed because the farm recorded
    /// them.
    pub fn decide_again(&self, text: &[u8]) -> Result<Decided, FarmError> {
        let decision = Decision::parse(text)?;
        let document = Digest::of(decision.to_text().as_bytes());
        if self.facts.latest(&Fact::Decision(&document))?.is_none() {
            let refusal = format!("decision {document} was not made by this farm, or was changed since");
            return Err(FarmError::Decided { refusal });
        }
        self.progress.stage(&format!("decide again: {}", decision.question));
        let read = |digest: &Digest| {
            let bytes = self.blobs.read(digest, FILE).ok().flatten();
            bytes.ok_or_else(|| Refusal::NotListed {
                what: digest.to_string(),
                index: "this store".to_owned(),
            })
        };
        let decision = decision.again(&read, &Telling(self.progress))?;
        if let Some(then) = &decision.evidence.policy
            && self.trust.policies.get(&then.name).is_ok_and(|now| now.reference() != *then)
        {
            self.progress
                .note(&format!("policy {} has changed since; this uses the policy of that time", then.name));
        }
        Ok(Decided { document, decision, attestations: None, list: None, advice: None })
    }

    /// The text of a decision, by its digest in the store, or from a file.
    pub fn decision_text(&self, place: &Path) -> Result<Vec<u8>, FarmError> {
        let Some(digest) = place.to_str().and_then(|text| text.parse::<Digest>().ok()) else {
            return read(place, DECISION_SIZE);
        };
        let missing = || FarmError::Usage(format!("decision {digest} is not in this store"));
        self.blobs.read(&digest, DECISION_SIZE)?.ok_or_else(missing)
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FarmError> {
    if !path.exists() {
        return Err(FarmError::missing(path));
    }
    match hab_file::read(path, limit) {
        Err(hab_file::Error::TooLarge { .. }) => {
            let detail = format!("it has more than {limit} bytes");
            Err(Refusal::Malformed { what: path.display().to_string(), detail }.into())
        }
        read => Ok(read?),
    }
}
