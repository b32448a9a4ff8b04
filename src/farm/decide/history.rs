//! Decisions about a repository's history.

use std::path::Path;

use hab_keys::chain::{self, Summary};
use hab_keys::{Certificates, Chain, ChainObserver, Decision, Policy, Question, VerifiedChain};

use super::{By, Decided};
use crate::farm::{Farm, FarmError, open};

/// Under which kind the catalog remembers how far a chain was verified.
const CHAIN: &str = "chain-verified";
/// The longest id of a commit, in bytes.
const COMMIT: u64 = 64;

impl Farm {
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

    /// Judges the history up to `tip`, from where an earlier check under the same policy ended.
    pub(in crate::farm) fn chain(
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
        Ok(self.store.blobs.read(&digest, COMMIT)?.and_then(|bytes| String::from_utf8(bytes).ok()))
    }
}

/// A history that was verified, and up to where it had been before.
pub(in crate::farm) struct Chained {
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
