//! A history of signed commits, the way Bitcoin Core's own checker defines it: along first parents from a tip to a
//! trusted root, every commit signed by a key that may, every tree's SHA-512 recomputed and named by the signed message,
//! and every merge made again.
//!
//! Oldest first, so that what is verified is always a whole chain from the root, and a later run can begin where an
//! earlier one ended.

mod merge;
mod tree_sha512;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use git2::{Odb, Oid, Repository};

use crate::policy::{ChainCheck, ChainRule, Rule, RuleKind};
use crate::{Document, Evidence, EvidenceKind, Judge, PolicyRef, Refusal, SignatureSeen, object};

use tree_sha512::Blobs;
use worker::Worker;

/// How many commits are judged between two reports of progress.
const BATCH: usize = 64;

/// Who is told how far a check has come.
pub trait ChainObserver: Sync {
    /// The first `done` of `total` commits are good; `tip` is the last of them.
    fn verified(&self, done: usize, total: usize, tip: &str);
    /// Whether to stop.
    fn cancelled(&self) -> bool;
}

/// What a check is about.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// The project's name, for people.
    pub project: &'a str,
    /// The repository; nothing is written into it.
    pub repository: &'a Path,
    /// The newest commit's id.
    pub tip: &'a str,
    /// A commit that was verified before, under the same policy: nothing before it is looked at again.
    pub verified: Option<&'a str>,
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

/// What was found along a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Commits that were judged now.
    pub commits: usize,
    /// Of these, merges that were made again.
    pub merges: usize,
    /// Of these, trees whose SHA-512 was recomputed.
    pub trees: usize,
    /// Signatures by name or fingerprint.
    pub by_key: BTreeMap<String, usize>,
    /// Commits that did not follow a rule and are allowed not to: id and rule.
    pub allowed: Vec<(String, ChainCheck)>,
}

impl VerifiedChain {
    /// The newest commit.
    pub fn tip(&self) -> &str {
        &self.tip
    }

    /// The name of the requirement that it meets.
    pub fn requirement(&self) -> &str {
        &self.requirement
    }

    /// The policy that accepted it.
    pub fn policy(&self) -> &PolicyRef {
        &self.policy
    }

    /// What was found.
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
    let (summary, signatures) = context.run(&ids, observer)?;
    let tip = odb.read(Oid::from_str(chain.tip).map_err(broken)?).map_err(broken)?;
    Ok(VerifiedChain {
        tip: chain.tip.to_owned(),
        requirement: requirement.name.clone(),
        policy: judge.policy().reference(),
        evidence: Evidence {
            kind: EvidenceKind::CommitChain,
            asked: what.clone(),
            policy: Some(judge.policy().reference()),
            met: vec![requirement.name.clone()],
            documents: vec![Document::of(&format!("commit {}", chain.tip), tip.data())],
            signatures,
        },
        summary,
    })
}

/// The commits to judge, oldest first: from after the root, or after what was verified before, to the tip.
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
        let bytes = read.map_err(|e| malformed(format!("commit {at} cannot be read: {}", e.message())))?;
        let commit = object::commit(bytes.data()).map_err(|e| malformed(format!("commit {at}: {e}")))?;
        ids.push(at);
        at = *commit.parents.first().ok_or_else(|| {
            malformed(format!("it begins at {at} and does not contain the trusted root {}", rule.root))
        })?;
    }
    ids.reverse();
    Ok(ids)
}

/// What every worker sees.
struct Context<'a> {
    what: &'a str,
    chain: Chain<'a>,
    rule: &'a ChainRule,
    judge: &'a Judge<'a>,
    blobs: Blobs,
}

/// What was found of one good commit.
struct Found {
    id: Oid,
    merge: bool,
    tree: bool,
    signatures: Vec<SignatureSeen>,
    allowed: Vec<ChainCheck>,
}

impl Summary {
    fn add(&mut self, found: &Found) {
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
    /// Judges the commits on all processors. The first bad one, in the order of the chain, is the error.
    fn run(
        &self,
        ids: &[Oid],
        observer: &dyn ChainObserver,
    ) -> Result<(Summary, Vec<SignatureSeen>), Refusal> {
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
                        // Nobody listens any more once one has failed.
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
        results: &Receiver<(usize, Result<Found, Refusal>)>,
        ids: &[Oid],
        observer: &dyn ChainObserver,
    ) -> Result<(Summary, Vec<SignatureSeen>), Refusal> {
        let mut waiting = BTreeMap::new();
        let mut summary = Summary::default();
        let mut signatures = Vec::new();
        for (at, result) in results {
            waiting.insert(at, result);
            while let Some(result) = waiting.remove(&summary.commits) {
                let found = result?;
                summary.add(&found);
                signatures = found.signatures;
                if summary.commits % BATCH == 0 || summary.commits == ids.len() {
                    observer.verified(summary.commits, ids.len(), &found.id.to_string());
                }
            }
            if observer.cancelled() {
                return Err(Refusal::Cancelled { what: self.what.to_owned() });
            }
        }
        Ok((summary, signatures))
    }
}
