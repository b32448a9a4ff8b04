//! Judges a repository's history, from where an earlier check under the same policy and certificates ended.

use std::path::Path;
use std::sync::atomic::Ordering;

use hab_keys::chain::{self, RefusedChain};
use hab_keys::tag::VerifiedTag;
use hab_keys::{Chain, ChainObserver, Judge, RuleKind, VerifiedChain};
use hab_store::Blobs;

use crate::error::FarmError;
use crate::facts::{Fact, Facts, JudgedBy};
use crate::progress::Progress;
use crate::trust::loaded::LoadedPolicy;
use crate::trust::memory::Memory;

/// The longest commit id, in bytes.
const COMMIT: u64 = 64;

/// Judges histories, and remembers up to which commit they were good.
#[derive(Clone, Copy)]
pub struct Histories<'a> {
    /// Remembers the last good commits.
    pub facts: Facts<'a>,
    /// Stores the ids of commits that facts name.
    pub blobs: &'a Blobs,
    /// Remembers signatures.
    pub memory: Memory<'a>,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

/// A project, and the path of its repository.
#[derive(Clone, Copy)]
pub struct ProjectRepository<'a> {
    /// The project's name.
    pub project: &'a str,
    /// The path of the repository.
    pub repository: &'a Path,
}

/// How much of a history to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Up to the first bad commit.
    FirstFailure,
    /// All of it, to find every bad commit.
    End,
}

/// The result of judging a history, and where the judging began.
pub struct Surveyed {
    /// The verified history, or what is bad in it.
    pub answer: Result<VerifiedChain, Box<RefusedChain>>,
    /// The commit up to which it had been verified before.
    pub resumed: Option<String>,
}

impl Histories<'_> {
    /// A judge that remembers what this farm has seen.
    pub fn judge<'b>(&'b self, loaded: &'b LoadedPolicy) -> Judge<'b> {
        self.memory.judge(&loaded.policy, &loaded.certificates)
    }

    /// Judges the history up to `tip`, from where an earlier check ended.
    pub fn verify(
        &self,
        loaded: &LoadedPolicy,
        place: ProjectRepository<'_>,
        tip: &str,
    ) -> Result<VerifiedChain, FarmError> {
        let surveyed = self.survey(loaded, place, tip, Until::FirstFailure)?;
        Ok(surveyed.answer.map_err(|refused| refused.refusal)?)
    }

    /// Like [`Histories::verify`], and says what exactly is bad.
    pub fn survey(
        &self,
        loaded: &LoadedPolicy,
        place: ProjectRepository<'_>,
        tip: &str,
        until: Until,
    ) -> Result<Surveyed, FarmError> {
        let judged = JudgedBy::new(loaded.policy.reference().digest, loaded.certificates.digest()?);
        let fact = Fact::VerifiedHistory { judged: &judged, project: place.project };
        let resumed = self.verified_before(&fact)?;
        let judge = self.judge(loaded);
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

    /// Judges the tag's history too, if the tag alone does not satisfy the policy and the policy asks for a history.
    pub fn complete(
        &self,
        loaded: &LoadedPolicy,
        place: ProjectRepository<'_>,
        tag: VerifiedTag,
    ) -> Result<VerifiedTag, FarmError> {
        let needs_history = loaded.policy.requirement(RuleKind::CommitChain).is_some();
        if tag.check_accepted().is_ok() || !needs_history {
            tag.check_accepted()?;
            return Ok(tag);
        }
        self.progress.stage(&format!("verify the history of {}", place.project));
        let chain = self.verify(loaded, place, tag.commit())?;
        let tag = tag.with_chain(&chain);
        tag.check_accepted()?;
        Ok(tag)
    }

    fn verified_before(&self, fact: &Fact<'_>) -> Result<Option<String>, FarmError> {
        let Some(digest) = self.facts.latest(fact)? else { return Ok(None) };
        Ok(self.blobs.read(&digest, COMMIT)?.and_then(|bytes| String::from_utf8(bytes).ok()))
    }
}

/// Reports the progress of a decision that is made again, and remembers nothing.
pub struct Telling<'a>(pub &'a dyn Progress);

impl ChainObserver for Telling<'_> {
    fn looked_at(&self, done: usize, total: usize, _: Option<&str>) {
        self.0.count("judged", done as u64, total as u64, "commits");
    }

    fn cancelled(&self) -> bool {
        self.0.cancel().load(Ordering::Relaxed)
    }
}

/// Reports progress, and remembers the last good commit for the next run.
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
        // A commit that is not remembered is verified again; nothing else is lost.
        if let Ok(digest) = blobs.put(tip.as_bytes()) {
            let _ = facts.remember(&self.fact, &digest, tip.len() as u64);
        }
    }

    fn cancelled(&self) -> bool {
        self.histories.progress.cancel().load(Ordering::Relaxed)
    }
}
