//! Decisions about a repository's history.

use std::path::Path;

use hab_keys::chain::{self, RefusedChain, Summary};
use hab_keys::{Certificates, Chain, ChainObserver, Decision, Policy, Question, Refusal, VerifiedChain};

use super::{By, Decided};
use crate::{Farm, FarmError, open};

/// Under which kind the catalog remembers how far a chain was verified.
const CHAIN: &str = "chain-verified";
/// The longest id of a commit, in bytes.
const COMMIT: u64 = 64;

impl Farm {
    /// Judges the history of `reference` in the repository at `path`; what was verified before under the same policy is
    /// not judged again. All of it is looked at, unless the first bad commit shall end it.
    pub fn verify_commits(
        &self,
        by: &By,
        path: &Path,
        reference: &str,
        first_failure: bool,
    ) -> Result<ChainDecided, FarmError> {
        let policy = self.policy(&by.policy)?;
        let certificates = self.certificates(&policy, &by.certificates)?;
        let repository = self.repository(path)?;
        let tip = repository.commit_id(reference);
        let tip =
            tip.ok_or_else(|| FarmError::Usage(format!("{} has no commit {reference}", path.display())))?;
        let project = repository.project().to_owned();
        let place = repository.path().canonicalize().map_err(FarmError::io(repository.path()))?;
        let bytes = repository.commit(&tip)?;
        self.progress.stage(&format!("verify the history of {project}"));
        let surveyed = self.survey(&policy, &certificates, (&project, &place), (&tip, first_failure))?;
        let mut failures = BadCommits::default();
        let (answer, summary, resumed) = match surveyed {
            Surveyed { answer: Ok(verified), resumed } => (Ok(()), Some(verified.summary().clone()), resumed),
            Surveyed { answer: Err(refused), resumed } if refused.refusal.is_verdict() => {
                let RefusedChain { refusal, summary, failed, failures: count, looked_at } = *refused;
                failures = BadCommits { failed, failures: count, looked_at };
                (Err(refusal), Some(summary).filter(|_| looked_at > 0), resumed)
            }
            // Of a mirror it is damage; a person's own clone is what that person wanted it to be.
            Surveyed { answer: Err(refused), .. }
                if matches!(refused.refusal, Refusal::Missing { .. }) && repository.is_partial() =>
            {
                return Err(FarmError::Usage(format!(
                    "{}; {} is a shallow or partial clone: `git fetch --unshallow` brings its history, \
                     `git fetch --refetch --no-filter` its objects",
                    refused.refusal,
                    path.display()
                )));
            }
            Surveyed { answer: Err(refused), .. } => return Err(refused.refusal.into()),
        };
        let judge = self.judge(&policy, &certificates);
        let question = Question::Commits { project, repository: place, tip };
        let (decision, bytes) = Decision::record(question, &[bytes], &judge, answer)?;
        let document = self.keep_decision(&decision, &bytes)?;
        let advice =
            failures.failed.iter().any(|(_, why)| why.contains("certificate")).then(|| policy.how_to_find());
        let decided = Decided { decision, document, attestations: None, list: None, advice };
        Ok(ChainDecided { decided, resumed, summary, failures })
    }

    /// Judges the history up to `tip`, from where an earlier check under the same policy ended.
    pub(crate) fn chain(
        &self,
        policy: &Policy,
        certificates: &Certificates,
        names: (&str, &Path),
        tip: &str,
    ) -> Result<VerifiedChain, FarmError> {
        let surveyed = self.survey(policy, certificates, names, (tip, true))?;
        Ok(surveyed.answer.map_err(|refused| refused.refusal)?)
    }

    fn survey(
        &self,
        policy: &Policy,
        certificates: &Certificates,
        (project, repository): (&str, &Path),
        (tip, first_failure): (&str, bool),
    ) -> Result<Surveyed, FarmError> {
        // Another certificate, or another revision of one, may be a revocation.
        let fact = format!("{} {} {project}", policy.reference().digest, certificates.digest()?);
        let resumed = self.verified_before(&fact)?;
        let judge = self.judge(policy, certificates);
        let watch = Watch { farm: self, fact: &fact, project };
        let chain = Chain { project, repository, tip, verified: resumed.as_deref(), first_failure };
        let answer = chain::survey(chain, &judge, &watch);
        if let Ok(verified) = &answer {
            self.saw(&verified.evidence().signatures)?;
        }
        Ok(Surveyed { answer, resumed })
    }

    fn verified_before(&self, fact: &str) -> Result<Option<String>, FarmError> {
        let Some(digest) = self.runtime.block_on(self.store.catalog.latest(CHAIN, fact))? else {
            return Ok(None);
        };
        Ok(self.store.blobs.read(&digest, COMMIT)?.and_then(|bytes| String::from_utf8(bytes).ok()))
    }
}

/// What came of a history, and up to where it had been verified before.
struct Surveyed {
    answer: Result<VerifiedChain, Box<RefusedChain>>,
    resumed: Option<String>,
}

/// The bad commits of a history.
#[derive(Debug, Default, serde::Serialize)]
pub struct BadCommits {
    /// Which and why, oldest first; of very many, the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(String, String)>,
    /// How many.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures: usize,
    /// How many commits were looked at, good ones too.
    #[serde(skip_serializing_if = "is_zero")]
    pub looked_at: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference
fn is_zero(number: &usize) -> bool {
    *number == 0
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
    /// What was found of the commits that are good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// The commits that are not.
    #[serde(flatten)]
    pub failures: BadCommits,
}

/// Tells the person how far a decision that is made again has come, and remembers nothing.
pub(super) struct Telling<'a>(pub &'a Farm);

impl ChainObserver for Telling<'_> {
    fn looked_at(&self, done: usize, total: usize, _: Option<&str>) {
        self.0.progress.count("judged", done as u64, total as u64, "commits");
    }

    fn cancelled(&self) -> bool {
        self.0.progress.cancel().load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Tells the person and remembers for the next run.
struct Watch<'a> {
    farm: &'a Farm,
    fact: &'a str,
    project: &'a str,
}

impl ChainObserver for Watch<'_> {
    fn looked_at(&self, done: usize, total: usize, good: Option<&str>) {
        let farm = self.farm;
        farm.progress.count("judged", done as u64, total as u64, &format!("commits of {}", self.project));
        let Some(tip) = good else { return };
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
