//! Decisions for people who ask: `hab-build verify`. Everything a decision rests on is kept, so that it can be made again.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hab_keys::chain::{self, Summary};
use hab_keys::{
    Attestations, Certificates, Chain, ChainObserver, Decision, Document, Examined, Policy, Question,
    Refusal, RuleKind, SignatureSeen, VerifiedChain, VerifiedFile,
};
use hab_mirror::git::GitMirror;
use hab_oci::Digest;

use super::{Farm, FarmError, open};

/// The largest file that is judged, in bytes.
const FILE: u64 = 2 << 30;
/// The largest signature file that is read, in bytes; a whole one is refused by its own limit.
const SIGNATURE: u64 = 4 << 20;
/// Under which kind the catalog remembers how far a chain was verified.
const CHAIN: &str = "chain-verified";
/// Under which kind it remembers the decisions that this farm made.
const DECISION: &str = "decision";

/// By whom and with what to judge.
#[derive(Clone, Debug)]
pub struct By {
    /// The policy's name.
    pub policy: String,
    /// Certificates beside those that the farm has: files and folders.
    pub certificates: Vec<PathBuf>,
}

/// A decision and where it is kept.
#[derive(Debug, serde::Serialize)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// Its document in the store.
    pub document: Digest,
    /// For attestations, the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestations: Option<Attestations>,
}

impl Farm {
    /// Decides a question, keeps everything it rests on, and remembers the signatures.
    fn decide(&self, by: &By, question: Question, documents: &[Vec<u8>]) -> Result<Decided, FarmError> {
        let policy = self.policy(&by.policy)?;
        let certificates = self.certificates(&policy, &by.certificates)?;
        let judge = self.judge(&policy, &certificates);
        let attestations = match &question {
            Question::Attestations { version, .. } => {
                Some(Attestations::judge(version, &question.submitted(documents), &judge)?)
            }
            _ => None,
        };
        let (decision, bytes) = Decision::make(question, documents, &judge)?;
        let document = self.keep_decision(&decision, &bytes)?;
        Ok(Decided { decision, document, attestations })
    }

    /// Keeps a decision and all that it rests on; returns its document's digest.
    fn keep_decision(&self, decision: &Decision, bytes: &[(Document, Vec<u8>)]) -> Result<Digest, FarmError> {
        for (_, bytes) in bytes {
            self.store.blobs.put(bytes)?;
        }
        let text = decision.to_text();
        let document = self.store.blobs.put(text.as_bytes())?;
        let (name, size) = (document.to_string(), text.len() as u64);
        let made = self.store.catalog.remember(DECISION, &name, &document, size, open::now());
        self.runtime.block_on(made)?;
        self.saw(&decision.evidence.signatures)?;
        Ok(document)
    }

    /// Judges tag `name` of the repository at `path`.
    pub fn decide_tag(&self, by: &By, path: &Path, name: &str) -> Result<Decided, FarmError> {
        let repository = self.repository(path)?;
        let name = name.strip_prefix("refs/tags/").unwrap_or(name);
        // Another value that the tag once had is not what was asked about.
        let tag = repository.tag(name)?.into_iter().next();
        let tag = tag.ok_or_else(|| FarmError::Usage(format!("{} has no tag {name}", path.display())))?;
        let Some(object) = tag.object else {
            let what = format!("tag {name} of {}, which is only a name for a commit,", repository.project());
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

    /// Judges a file by its detached signature, or clearsigned.
    pub fn decide_file(&self, by: &By, file: &Path, signature: Option<&Path>) -> Result<Decided, FarmError> {
        let mut documents = vec![read(file, FILE)?];
        if let Some(signature) = signature {
            documents.push(read(signature, SIGNATURE)?);
        }
        let question = Question::File { name: name(file), signature: signature.map(name) };
        self.decide(by, question, &documents)
    }

    /// Holds a file against the digest that the policy pins for it.
    pub fn pinned_file(&self, by: &By, file: &Path) -> Result<Option<VerifiedFile>, FarmError> {
        let policy = self.policy(&by.policy)?;
        if policy.requirement(RuleKind::Digest).is_none() {
            return Ok(None);
        }
        let certificates = Certificates::default();
        let judge = self.judge(&policy, &certificates);
        Ok(Some(VerifiedFile::pinned(&name(file), &read(file, FILE)?, &judge)?))
    }

    /// Judges a list of hashes by detached signatures.
    pub fn decide_sums(&self, by: &By, sums: &Path, signatures: &[PathBuf]) -> Result<Decided, FarmError> {
        let mut documents = vec![read(sums, SIGNATURE)?];
        for signature in signatures {
            documents.push(read(signature, SIGNATURE)?);
        }
        let signatures = signatures.iter().map(|s| name(s)).collect();
        self.decide(by, Question::Sums { name: name(sums), signatures }, &documents)
    }

    /// Judges what the builders of a version handed in below `folder`.
    pub fn decide_attestations(&self, by: &By, folder: &Path, version: &str) -> Result<Decided, FarmError> {
        // A version is one folder's name.
        if version.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(FarmError::Usage(format!("{version:?} is not the name of a version's folder")));
        }
        exists(&folder.join(version))?;
        let submitted = hab_keys::read_attestations(folder, version)?;
        let listed = submitted.iter().map(|s| (s.builder.clone(), s.kind)).collect();
        let question = Question::Attestations { version: version.to_owned(), submitted: listed };
        let documents: Vec<_> = submitted.into_iter().flat_map(|s| [s.sums, s.signature]).collect();
        self.decide(by, question, &documents)
    }

    /// Makes a decision again from what the store has, without a network, and holds the two against each other. Only one
    /// that this farm made: what a document says of its own time, policy and memory is believed because it is recorded.
    pub fn decide_again(&self, text: &[u8]) -> Result<Decided, FarmError> {
        let decision = Decision::parse(text)?;
        let document = Digest::of(decision.to_text().as_bytes());
        if self.runtime.block_on(self.store.catalog.latest(DECISION, &document.to_string()))?.is_none() {
            let refusal = format!("decision {document} was not made by this farm, or was changed since");
            return Err(FarmError::Decided { refusal });
        }
        let decision = decision.again(&|digest| {
            let bytes = self.store.blobs.read(digest).ok().flatten();
            bytes.ok_or_else(|| Refusal::NotListed {
                what: digest.to_string(),
                index: "this store".to_owned(),
            })
        })?;
        if let Some(then) = &decision.evidence.policy
            && self.policy(&then.name).is_ok_and(|now| now.reference() != *then)
        {
            self.progress
                .note(&format!("policy {} has changed since; this is by what it was then", then.name));
        }
        Ok(Decided { document, decision, attestations: None })
    }

    /// A document of the store.
    pub fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, FarmError> {
        Ok(self.store.blobs.read(digest)?)
    }

    /// Judges the history of `reference` in the repository at `path`; what was verified before under the same policy is
    /// not judged again.
    pub fn verify_commits(&self, by: &By, path: &Path, reference: &str) -> Result<ChainDecided, FarmError> {
        let policy = self.policy(&by.policy)?;
        let certificates = self.certificates(&policy, &by.certificates)?;
        let repository = self.repository(path)?;
        let tip = repository.commit_id(reference);
        let tip =
            tip.ok_or_else(|| FarmError::Usage(format!("{} has no commit {reference}", path.display())))?;
        let project = repository.project().to_owned();
        let place = repository.path().canonicalize().map_err(FarmError::io(repository.path()))?;
        let bytes = repository.commit(&tip)?;
        let chained = self.chain(&policy, &certificates, (&project, &place), &tip);
        let (answer, summary, resumed) = match chained {
            Ok(Chained { verified, resumed }) => (Ok(()), Some(verified.summary().clone()), resumed),
            Err(FarmError::Refused(e)) if e.is_verdict() => (Err(e), None, None),
            Err(e) => return Err(e),
        };
        let judge = self.judge(&policy, &certificates);
        let question = Question::Commits { project, repository: place, tip };
        let (decision, bytes) = Decision::record(question, &[bytes], &judge, answer)?;
        let document = self.keep_decision(&decision, &bytes)?;
        Ok(ChainDecided { decided: Decided { decision, document, attestations: None }, resumed, summary })
    }

    /// A repository: a path, or else the name of a project that is mirrored here.
    fn repository(&self, path: &Path) -> Result<GitMirror, FarmError> {
        let mirrored = self.options.data.join("git").join(format!("{}.git", path.display()));
        let named = path.components().count() == 1 && !path.exists() && mirrored.is_dir();
        if !named {
            exists(path)?;
        }
        Ok(GitMirror::existing(if named { &mirrored } else { path })?)
    }

    /// Judges the history up to `tip`, from where an earlier check under the same policy ended.
    pub(super) fn chain(
        &self,
        policy: &Policy,
        certificates: &Certificates,
        (project, repository): (&str, &Path),
        tip: &str,
    ) -> Result<Chained, FarmError> {
        // Another certificate, or another revision of one, may be a revocation.
        let fact = format!("{} {} {project}", policy.reference().digest, certificates.digest()?);
        let resumed = self.verified_before(&fact)?;
        let judge = self.judge(policy, certificates);
        let watch = Watch { farm: self, fact: &fact, project };
        let chain = Chain { project, repository, tip, verified: resumed.as_deref() };
        let verified = chain::verify(chain, &judge, &watch)?;
        self.saw(&verified.evidence().signatures)?;
        Ok(Chained { verified, resumed })
    }

    fn verified_before(&self, fact: &str) -> Result<Option<String>, FarmError> {
        let Some(digest) = self.runtime.block_on(self.store.catalog.latest(CHAIN, fact))? else {
            return Ok(None);
        };
        Ok(self.store.blobs.read(&digest)?.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// Looks at every tag and commit object in a folder of raw objects, each named by its id.
    pub fn examine(&self, by: &By, folder: &Path, kind: ObjectKind) -> Result<Vec<Looked>, FarmError> {
        let policy = self.policy(&by.policy)?;
        let certificates = self.certificates(&policy, &by.certificates)?;
        let judge = self.judge(&policy, &certificates);
        let group = policy.requirement(match kind {
            ObjectKind::Tag => RuleKind::Tag,
            ObjectKind::Commit => RuleKind::CommitChain,
        });
        let group = group.and_then(|r| r.rule.quorum().cloned());
        let mut looked = Vec::new();
        for id in raw_objects(folder)? {
            let bytes = read(&folder.join(&id), 8 << 20)?;
            let examined = match kind {
                ObjectKind::Tag => Examined::tag(&id, &bytes, &judge),
                ObjectKind::Commit => Examined::commit(&id, &bytes, &judge),
            };
            looked.push(match examined {
                Ok(examined) => {
                    self.saw(&examined.signatures)?;
                    let counts = group.as_ref().is_some_and(|q| judge.counts(q, &examined.signatures));
                    Looked { id, name: examined.name, counts, signatures: examined.signatures, refused: None }
                }
                Err(e) if e.is_verdict() => Looked {
                    id,
                    name: String::new(),
                    counts: false,
                    signatures: Vec::new(),
                    refused: Some(e.to_string()),
                },
                Err(e) => return Err(e.into()),
            });
        }
        Ok(looked)
    }
}

/// Which kind of raw objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Annotated tags.
    Tag,
    /// Commits.
    Commit,
}

/// A raw object that was looked at.
#[derive(Debug, serde::Serialize)]
pub struct Looked {
    /// Its id.
    pub id: String,
    /// A tag's own name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether its signatures are enough for the policy.
    pub counts: bool,
    /// Its signatures.
    pub signatures: Vec<SignatureSeen>,
    /// Why it could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Looked {
    /// Its state, in few words: for counting.
    pub fn state(&self) -> String {
        match (&self.refused, self.signatures.first()) {
            (Some(why), _) => why.clone(),
            (None, None) => "unsigned".to_owned(),
            (None, Some(seen)) => seen.verdict.to_string(),
        }
    }
}

/// A history that was verified, and up to where it had been before.
pub(super) struct Chained {
    pub verified: VerifiedChain,
    resumed: Option<String>,
}

/// A decision about a history.
#[derive(Debug, serde::Serialize)]
pub struct ChainDecided {
    /// The decision.
    #[serde(flatten)]
    pub decided: Decided,
    /// Up to which commit it had been verified before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<String>,
    /// What was found, where it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

/// Tells the person and remembers for the next run.
struct Watch<'a> {
    farm: &'a Farm,
    fact: &'a str,
    project: &'a str,
}

impl ChainObserver for Watch<'_> {
    fn verified(&self, done: usize, total: usize, tip: &str) {
        let farm = self.farm;
        farm.progress.amount(
            &format!("verify commits of {}:", self.project),
            done as u64,
            Some(total as u64),
        );
        // What is not remembered is verified once more; nothing else is lost.
        if let Ok(digest) = farm.store.blobs.put(tip.as_bytes()) {
            let size = tip.len() as u64;
            let remembered = farm.store.catalog.remember(CHAIN, self.fact, &digest, size, open::now());
            let _ = farm.runtime.block_on(remembered);
        }
    }

    fn cancelled(&self) -> bool {
        self.farm.progress.cancel().load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Whether `folder` is one of raw objects rather than a repository.
pub fn is_raw(folder: &Path) -> bool {
    GitMirror::existing(folder).is_err() && raw_objects(folder).is_ok_and(|ids| !ids.is_empty())
}

fn raw_objects(folder: &Path) -> Result<Vec<String>, FarmError> {
    let entries = fs::read_dir(folder).map_err(FarmError::io(folder))?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut ids: Vec<String> =
        names.filter(|name| name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit())).collect();
    ids.sort();
    Ok(ids)
}

/// What a person names must be there; otherwise it is the question that is wrong.
fn exists(path: &Path) -> Result<(), FarmError> {
    if path.exists() { Ok(()) } else { Err(FarmError::Usage(format!("{} does not exist", path.display()))) }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FarmError> {
    exists(path)?;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(FarmError::io(path))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(FarmError::io(path))?;
    if bytes.len() as u64 > limit {
        let detail = format!("it has more than {limit} bytes");
        return Err(Refusal::Malformed { what: path.display().to_string(), detail }.into());
    }
    Ok(bytes)
}
