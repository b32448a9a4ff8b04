//! Decisions about a repository's history.

use std::path::Path;

use hab_keys::chain::{RefusedChain, Summary};
use hab_keys::{Decision, Question, Refusal};

use super::{By, Decided, Decisions};
use crate::error::FarmError;
use crate::trust::history::{ProjectRepository, Surveyed, Until};

impl Decisions<'_> {
    /// Judges the history of `reference` in the repository at `path`. Skips what was verified before under the same
    /// policy. Looks at everything else, or with `first_failure` ends at the first bad commit.
    pub fn verify_commits(
        &self,
        by: &By,
        path: &Path,
        reference: &str,
        first_failure: bool,
    ) -> Result<ChainDecided, FarmError> {
        let loaded = self.trust.load(&by.policy, &by.certificates)?;
        let repository = self.repositories.named(path)?;
        let tip = repository.commit_id(reference);
        let tip =
            tip.ok_or_else(|| FarmError::Usage(format!("{} has no commit {reference}", path.display())))?;
        let project = repository.project().to_owned();
        let place = repository.path().canonicalize().map_err(FarmError::io(repository.path()))?;
        let bytes = repository.commit(&tip)?;
        self.progress.stage(&format!("verify the history of {project}"));
        let until = if first_failure { Until::FirstFailure } else { Until::End };
        let at = ProjectRepository { project: &project, repository: &place };
        let surveyed = self.trust.histories.survey(&loaded, at, &tip, until)?;
        let mut failures = BadCommits::default();
        let mut advice = None;
        let (answer, summary, resumed) = match surveyed {
            Surveyed { answer: Ok(verified), resumed } => (Ok(()), Some(verified.summary().clone()), resumed),
            Surveyed { answer: Err(refused), resumed } if refused.refusal.is_verdict() => {
                let RefusedChain { refusal, summary, failed, failures: count, looked_at, lacks_certificate } =
                    *refused;
                advice = lacks_certificate.then(|| loaded.policy.how_to_find());
                failures = BadCommits { failed, failures: count, looked_at };
                (Err(refusal), Some(summary).filter(|_| looked_at > 0), resumed)
            }
            // A missing object is damage in a mirror, but a person may have cloned only a part on purpose.
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
        let judge = self.trust.histories.judge(&loaded);
        let question = Question::Commits { project, repository: place, tip };
        let (decision, bytes) = Decision::record(question, &[bytes], &judge, answer)?;
        let document = self.keep_decision(&decision, &bytes)?;
        let decided = Decided { decision, document, attestations: None, list: None, advice };
        Ok(ChainDecided { decided, resumed, summary, failures })
    }
}

/// The bad commits of a history.
#[derive(Debug, Default, serde::Serialize)]
pub struct BadCommits {
    /// Each bad commit and why it is bad, oldest first. Only the first ones if there are very many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(String, String)>,
    /// The number of bad commits.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures: usize,
    /// The number of commits that were looked at, including good ones.
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
    /// The commit up to which the history had been verified before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<String>,
    /// What was found about the good commits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// The bad commits.
    #[serde(flatten)]
    pub failures: BadCommits,
}
