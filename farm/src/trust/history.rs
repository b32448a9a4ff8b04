//! Judging a repository's history, from where an earlier check under the same policy and certificates ended.

use std::path::Path;
use std::sync::atomic::Ordering;

use hab_keys::chain::{self, RefusedChain};
use hab_keys::tag::VerifiedTag;
use hab_keys::{Certificates, Chain, ChainObserver, Judge, Policy, RuleKind, VerifiedChain};
use hab_store::Blobs;

use crate::error::FarmError;
use crate::facts::{Fact, Facts, JudgedBy};
use crate::progress::Progress;
use crate::trust::memory::Memory;

/// The longest id of a commit, in bytes.
const COMMIT: u64 = 64;

/// Judges histories, and remembers how far they were good.
#[derive(Clone, Copy)]
pub struct Histories<'a> {
    /// Where it is remembered.
    pub facts: Facts<'a>,
    /// Where the ids of commits are kept that facts name.
    pub blobs: &'a Blobs,
    /// Where signatures are remembered.
    pub memory: Memory<'a>,
    /// Who is told.
    pub progress: &'a dyn Progress,
}

/// A project and where its repository is.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The project's name.
    pub project: &'a str,
    /// The repository.
    pub repository: &'a Path,
}

/// By whom a history is judged.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// What is demanded.
    pub policy: &'a Policy,
    /// With which certificates.
    pub certificates: &'a Certificates,
}

/// How much of a history is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The first bad commit ends it.
    FirstFailure,
    /// All of it, so that every bad commit is found.
    End,
}

/// What came of a history, and up to where it had been verified before.
pub struct Surveyed {
    /// The history that is good, or what is bad in it.
    pub answer: Result<VerifiedChain, Box<RefusedChain>>,
    /// Up to which commit it had been verified before.
    pub resumed: Option<String>,
}

impl Histories<'_> {
    /// A judge who remembers what this farm has seen.
    pub fn judge<'b>(&'b self, bench: Bench<'b>) -> Judge<'b> {
        self.memory.judge(bench.policy, bench.certificates)
    }

    /// Judges the history up to `tip`, from where an earlier check ended.
    pub fn verify(&self, bench: Bench<'_>, place: Place<'_>, tip: &str) -> Result<VerifiedChain, FarmError> {
        let surveyed = self.survey(bench, place, tip, Until::FirstFailure)?;
        Ok(surveyed.answer.map_err(|refused| refused.refusal)?)
    }

    /// The same, and what exactly is bad in it.
    pub fn survey(
        &self,
        bench: Bench<'_>,
        place: Place<'_>,
        tip: &str,
        until: Until,
    ) -> Result<Surveyed, FarmError> {
        let judged = JudgedBy::new(bench.policy.reference().digest, bench.certificates.digest()?);
        let fact = Fact::VerifiedHistory { judged: &judged, project: place.project };
        let resumed = self.verified_before(&fact)?;
        let judge = self.judge(bench);
        let watch = Watch { histories: self, fact, project: place.project };
        let chain = Chain {
            project: place.project,
            repository: place.repository,
            tip,
            verified: resumed.as_deref(),
            first_failure: until == Until::FirstFailure,
        };
        let answer = chain::survey(chain, &judge, &watch);
        if let Ok(verified) = &answer {
            self.memory.saw(&verified.evidence().signatures)?;
        }
        Ok(Surveyed { answer, resumed })
    }

    /// Judges what else a policy demands of a tag's history, where the tag alone is not enough.
    pub fn complete(
        &self,
        bench: Bench<'_>,
        place: Place<'_>,
        tag: VerifiedTag,
    ) -> Result<VerifiedTag, FarmError> {
        let needs_history = bench.policy.requirement(RuleKind::CommitChain).is_some();
        if tag.settle().is_ok() || !needs_history {
            tag.settle()?;
            return Ok(tag);
        }
        self.progress.stage(&format!("verify the history of {}", place.project));
        let chain = self.verify(bench, place, tag.commit())?;
        let tag = tag.with_chain(&chain);
        tag.settle()?;
        Ok(tag)
    }

    fn verified_before(&self, fact: &Fact<'_>) -> Result<Option<String>, FarmError> {
        let Some(digest) = self.facts.latest(fact)? else { return Ok(None) };
        Ok(self.blobs.read(&digest, COMMIT)?.and_then(|bytes| String::from_utf8(bytes).ok()))
    }
}

/// Tells the person how far a decision that is made again has come, and remembers nothing.
pub struct Telling<'a>(pub &'a dyn Progress);

impl ChainObserver for Telling<'_> {
    fn looked_at(&self, done: usize, total: usize, _: Option<&str>) {
        self.0.count("judged", done as u64, total as u64, "commits");
    }

    fn cancelled(&self) -> bool {
        self.0.cancel().load(Ordering::Relaxed)
    }
}

/// Tells the person and remembers for the next run.
struct Watch<'a> {
    histories: &'a Histories<'a>,
    fact: Fact<'a>,
    project: &'a str,
}

impl ChainObserver for Watch<'_> {
    fn looked_at(&self, done: usize, total: usize, good: Option<&str>) {
        let Histories { facts, blobs, progress, .. } = self.histories;
        progress.count("judged", done as u64, total as u64, &format!("commits of {}", self.project));
        let Some(tip) = good else { return };
        // What is not remembered is verified once more; nothing else is lost.
        if let Ok(digest) = blobs.put(tip.as_bytes()) {
            let _ = facts.remember(&self.fact, &digest, tip.len() as u64);
        }
    }

    fn cancelled(&self) -> bool {
        self.histories.progress.cancel().load(Ordering::Relaxed)
    }
}
