//! Judges a history of signed commits by the rules of Bitcoin Core's own checker. Along first parents from a tip to a
//! trusted root, a key that may sign must have signed every commit, and every signed message must contain the SHA-512
//! of its tree. The SHA-512 is recomputed, and every merge is repeated.
//!
//! Judges the oldest commit first. So the verified part is always a whole chain from the root, and a later run can
//! continue from where an earlier one ended.

mod merge;
mod missing;
mod tree_sha512;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use git2::{ErrorCode, Odb, Oid, Repository};

use crate::policy::{ChainCheck, ChainRule, Rule, RuleKind};
use crate::{Document, Evidence, EvidenceKind, Judge, PolicyRef, Refusal, SignatureSeen, object};

use tree_sha512::Blobs;
use worker::Worker;

/// How many commits are judged between two reports of progress.
const BATCH: usize = 64;

/// Receives the progress of a check.
pub trait ChainObserver: Sync {
    /// The first `done` of `total` commits were judged; all of them up to `good` are good.
    fn looked_at(&self, done: usize, total: usize, good: Option<&str>);
    /// Whether to stop.
    fn cancelled(&self) -> bool;
}

/// The history to check.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// The project's name, for people.
    pub project: &'a str,
    /// The repository; nothing is written into it.
    pub repository: &'a Path,
    /// The newest commit's id.
    pub tip: &'a str,
    /// A commit that was verified before under the same policy; neither it nor any commit before it is judged again.
    pub verified: Option<&'a str>,
    /// Whether the first bad commit ends the check; otherwise all commits are judged, and the bad ones counted.
    pub first_failure: bool,
}

/// A refused history, with the findings.
#[derive(Debug)]
pub struct RefusedChain {
    /// Why it is refused.
    pub refusal: Refusal,
    /// The findings along its good commits.
    pub summary: Summary,
    /// The bad commits, oldest first: id and reason. If there are very many, only the first ones.
    pub failed: Vec<(String, String)>,
    /// The number of bad commits.
    pub failures: usize,
    /// The number of commits that were judged.
    pub looked_at: usize,
    /// Whether a certificate that is not here could make a bad commit good.
    pub lacks_certificate: bool,
}

impl From<Refusal> for Box<RefusedChain> {
    fn from(refusal: Refusal) -> Self {
        let (summary, failed) = (Summary::default(), Vec::new());
        let lacks_certificate = false;
        Self::new(RefusedChain { refusal, summary, failed, failures: 0, looked_at: 0, lacks_certificate })
    }
}

/// A history that a policy accepted.
#[derive(Clone, Debug)]
pub struct VerifiedChain {
    tip: String,
    requirement: String,
    policy: PolicyRef,
    summary: Summary,
    evidence: Evidence,
}

/// The findings along a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// The number of commits that this run judged.
    pub commits: usize,
    /// How many of these are merges that were repeated.
    pub merges: usize,
    /// For how many of these the tree's SHA-512 was recomputed.
    pub trees: usize,
    /// The number of signatures for each name or fingerprint.
    pub by_key: BTreeMap<String, usize>,
    /// Commits that break a rule and are allowed to: id and rule.
    pub allowed: Vec<(String, ChainCheck)>,
}

impl VerifiedChain {
    /// The newest commit.
    pub fn tip(&self) -> &str {
        &self.tip
    }

    /// The name of the requirement that the history meets.
    pub fn requirement(&self) -> &str {
        &self.requirement
    }

    /// The policy that accepted it.
    pub fn policy(&self) -> &PolicyRef {
        &self.policy
    }

    /// The findings.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Why it was accepted.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}

/// Judges a history.
pub fn verify(
    chain: Chain<'_>,
    judge: &Judge<'_>,
    observer: &dyn ChainObserver,
) -> Result<VerifiedChain, Refusal> {
    survey(chain, judge, observer).map_err(|refused| refused.refusal)
}

/// Judges a history; a refusal comes with the findings.
pub fn survey(
    chain: Chain<'_>,
    judge: &Judge<'_>,
    observer: &dyn ChainObserver,
) -> Result<VerifiedChain, Box<RefusedChain>> {
    let seen = look(chain, judge, observer)?;
    if seen.walk.failures == 0 {
        return Ok(seen.accepted(chain, judge));
    }
    Err(Box::new(seen.refused(chain)))
}

/// The walk along a chain, and the rest that a verdict needs.
struct FinishedWalk<'a> {
    what: String,
    requirement: &'a str,
    tip: Document,
    walk: Walk,
}

impl FinishedWalk<'_> {
    fn accepted(self, chain: Chain<'_>, judge: &Judge<'_>) -> VerifiedChain {
        let evidence = Evidence {
            kind: EvidenceKind::CommitChain,
            asked: self.what,
            policy: Some(judge.policy().reference()),
            met: vec![self.requirement.to_owned()],
            documents: vec![self.tip],
            signatures: self.walk.signatures,
        };
        VerifiedChain {
            tip: chain.tip.to_owned(),
            requirement: self.requirement.to_owned(),
            policy: judge.policy().reference(),
            evidence,
            summary: self.walk.summary,
        }
    }

    fn refused(self, chain: Chain<'_>) -> RefusedChain {
        let Walk { summary, failed, failures, looked_at, lacks_certificate, .. } = self.walk;
        let first =
            failed.first().map(|(id, why)| format!("commit {id} is refused: {why}")).unwrap_or_default();
        let detail = if chain.first_failure {
            first
        } else {
            format!("{first}; of {looked_at} commits, {failures} are refused")
        };
        let refusal = Refusal::Malformed { what: self.what, detail };
        RefusedChain { refusal, summary, failed, failures, looked_at, lacks_certificate }
    }
}

fn look<'a>(
    chain: Chain<'_>,
    judge: &Judge<'a>,
    observer: &dyn ChainObserver,
) -> Result<FinishedWalk<'a>, Refusal> {
    let what = format!("the history of {} up to {}", chain.project, chain.tip);
    let requirement = judge.requirement(RuleKind::CommitChain, &what)?;
    let Rule::CommitChain(rule) = &requirement.rule else {
        return Err(Refusal::Malformed { what, detail: "its policy's chain has no rule".to_owned() });
    };
    let broken = |source| Refusal::Repository { path: chain.repository.to_owned(), source };
    let repository = Repository::open(chain.repository).map_err(broken)?;
    let odb = repository.odb().map_err(broken)?;
    let ids = first_parents(&odb, &what, chain, rule)?;
    let context = Context { what: &what, chain, rule, judge, blobs: Blobs::default() };
    let walk = context.run(&ids, observer)?;
    let tip = odb.read(Oid::from_str(chain.tip).map_err(broken)?).map_err(broken)?;
    let tip = Document::of(&format!("commit {}", chain.tip), tip.data());
    Ok(FinishedWalk { what, requirement: &requirement.name, tip, walk })
}

/// The findings of a walk so far.
#[derive(Default)]
struct Walk {
    /// Of the good commits.
    summary: Summary,
    /// Of the newest good commit.
    signatures: Vec<SignatureSeen>,
    failed: Vec<(String, String)>,
    failures: usize,
    looked_at: usize,
    lacks_certificate: bool,
}

/// The most bad commits that are named; further ones are only counted.
const NAMED: usize = 1000;

/// The commits to judge, oldest first: those after the root, or after the commit that was verified before, up to the
/// tip.
fn first_parents(odb: &Odb<'_>, what: &str, chain: Chain<'_>, rule: &ChainRule) -> Result<Vec<Oid>, Refusal> {
    let malformed = |detail: String| Refusal::Malformed { what: what.to_owned(), detail };
    let id =
        |text: &str| Oid::from_str(text).map_err(|_| malformed(format!("{text:?} is not a commit's id")));
    let ends = [Some(rule.root.as_str()), chain.verified].into_iter().flatten().map(id);
    let ends = ends.collect::<Result<Vec<_>, _>>()?;
    let mut ids = Vec::new();
    let mut at = id(chain.tip)?;
    while !ends.contains(&at) {
        let read = object::admit(odb, at).and_then(|()| odb.read(at));
        let bytes = read.map_err(|e| match e.code() {
            ErrorCode::NotFound => lacking(what, &format!("commit {at} is not in the repository")),
            _ => malformed(format!("commit {at} cannot be read: {}", e.message())),
        })?;
        let commit = object::commit(bytes.data()).map_err(|e| malformed(format!("commit {at}: {e}")))?;
        ids.push(at);
        at = *commit.parents.first().ok_or_else(|| {
            malformed(format!("it begins at {at} and does not contain the trusted root {}", rule.root))
        })?;
    }
    ids.reverse();
    Ok(ids)
}

/// Something is missing, so there is no verdict.
fn lacking(what: &str, detail: &str) -> Refusal {
    Refusal::Missing { what: what.to_owned(), detail: detail.to_owned() }
}

/// What all workers share.
struct Context<'a> {
    what: &'a str,
    chain: Chain<'a>,
    rule: &'a ChainRule,
    judge: &'a Judge<'a>,
    blobs: Blobs,
}

/// Why a commit is not good.
enum Bad {
    /// It was judged, and is refused.
    Commit(BadCommit),
    /// It cannot be judged, because of the repository or of this machine.
    Judgement(Refusal),
}

/// A commit that is refused.
struct BadCommit {
    why: String,
    /// Whether a certificate that is not here could help.
    lacks_certificate: bool,
}

impl From<String> for BadCommit {
    fn from(why: String) -> Self {
        Self { why, lacks_certificate: false }
    }
}

/// The findings for one good commit.
struct GoodCommit {
    id: Oid,
    merge: bool,
    tree: bool,
    signatures: Vec<SignatureSeen>,
    allowed: Vec<ChainCheck>,
}

impl Summary {
    fn add(&mut self, found: &GoodCommit) {
        self.commits += 1;
        self.merges += usize::from(found.merge);
        self.trees += usize::from(found.tree);
        for signature in &found.signatures {
            let who = signature.name.as_ref().unwrap_or(&signature.key);
            *self.by_key.entry(who.clone()).or_default() += 1;
        }
        self.allowed.extend(found.allowed.iter().map(|check| (found.id.to_string(), *check)));
    }
}

impl Context<'_> {
    /// Judges the commits on all processors.
    fn run(&self, ids: &[Oid], observer: &dyn ChainObserver) -> Result<Walk, Refusal> {
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let (sender, results) = channel();
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(ids.len());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let sender = sender.clone();
                let (next, stop) = (&next, &stop);
                scope.spawn(move || {
                    let mut worker = Worker::new(self);
                    while !stop.load(Ordering::Relaxed) {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(id) = ids.get(at) else { break };
                        // The receiver is gone once a commit has failed.
                        if sender.send((at, worker.commit(*id))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let collected = self.collect(&results, ids, observer);
            stop.store(true, Ordering::Relaxed);
            collected
        })
    }

    /// Takes the workers' results in the order of the chain.
    fn collect(
        &self,
        results: &Receiver<(usize, Result<GoodCommit, Bad>)>,
        ids: &[Oid],
        observer: &dyn ChainObserver,
    ) -> Result<Walk, Refusal> {
        let mut waiting = BTreeMap::new();
        let mut walk = Walk::default();
        // The newest commit up to which all are good: a later run may continue after it.
        let mut good = None;
        for (at, result) in results {
            waiting.insert(at, result);
            while let Some(result) = waiting.remove(&walk.looked_at) {
                let id = ids[walk.looked_at];
                walk.looked_at += 1;
                match result {
                    Ok(found) => {
                        walk.summary.add(&found);
                        walk.signatures = found.signatures;
                        good = if walk.failures == 0 { Some(id) } else { good };
                    }
                    Err(Bad::Commit(BadCommit { why, lacks_certificate })) => {
                        walk.failures += 1;
                        walk.lacks_certificate |= lacks_certificate;
                        if walk.failed.len() < NAMED {
                            walk.failed.push((id.to_string(), why));
                        }
                        if self.chain.first_failure {
                            return Ok(walk);
                        }
                    }
                    Err(Bad::Judgement(refusal)) => return Err(refusal),
                }
                if walk.looked_at.is_multiple_of(BATCH) || walk.looked_at == ids.len() {
                    let good = good.map(|id| id.to_string());
                    observer.looked_at(walk.looked_at, ids.len(), good.as_deref());
                }
            }
            if observer.cancelled() {
                return Err(Refusal::Cancelled { what: self.what.to_owned() });
            }
        }
        Ok(walk)
    }
}
