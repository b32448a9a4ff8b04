//! Judges all tags of a repository, one by one.

use std::path::Path;

use hab_keys::tag::{Claimed, VerifiedTag};
use hab_keys::{Examined, Refusal, RuleKind};
use hab_mirror::MirrorError;
use hab_mirror::git::{GitMirror, TagBytes};

use super::{By, Decisions, JudgedObject};
use crate::error::FarmError;
use crate::trust::loaded::LoadedPolicy;
use crate::words::counted;

impl Decisions<'_> {
    /// Judges every tag of the repository at `path`, in the order of their names. Keeps no decision about each.
    pub fn verify_tags(&self, by: &By, path: &Path) -> Result<Vec<JudgedObject>, FarmError> {
        let loaded = self.trust.load(&by.policy, &by.certificates)?;
        let repository = self.repositories.named(path)?;
        let refs = repository.refs()?;
        let names: Vec<&str> = refs.keys().filter_map(|name| name.strip_prefix("refs/tags/")).collect();
        if names.is_empty() {
            return Err(FarmError::Usage(format!("{} has no tags", path.display())));
        }
        let project = repository.project().to_owned();
        self.progress.stage(&format!("verify {} of {project}", counted(names.len() as u64, "tag")));
        let mut looked = Vec::new();
        for (at, name) in names.iter().enumerate() {
            if self.progress.cancel().load(std::sync::atomic::Ordering::Relaxed) {
                return Err(Refusal::Cancelled { what: format!("the tags of {project}") }.into());
            }
            looked.push(self.look_at_tag(&loaded, &repository, name)?);
            self.progress.count("judged", at as u64 + 1, names.len() as u64, "tags");
        }
        Ok(looked)
    }

    fn look_at_tag(
        &self,
        loaded: &LoadedPolicy,
        repository: &GitMirror,
        name: &str,
    ) -> Result<JudgedObject, FarmError> {
        let refused = |id: &str, why: String| JudgedObject {
            id: id.to_owned(),
            name: name.to_owned(),
            counts: false,
            signatures: Vec::new(),
            refused: Some(why),
        };
        let tag = match repository.tag(name) {
            // The question is about the tag's current value, not about an earlier one.
            Ok(values) => values.into_iter().next(),
            // The tag points at a file, a tree or something too large, which no policy accepts.
            Err(e @ MirrorError::Malformed { .. }) => return Ok(refused("", e.to_string())),
            Err(e) => return Err(e.into()),
        };
        let Some(tag) = tag else { return Ok(refused("", "its name cannot be a tag's".to_owned())) };
        let TagBytes { id, object, commit_id, commit, .. } = &tag;
        let Some(object) = object else {
            return Ok(refused(id, "not signed: it is a lightweight tag".to_owned()));
        };
        let judge = self.trust.judge(loaded);
        let mut signatures = Examined::tag(id, object, &judge).map(|e| e.signatures).unwrap_or_default();
        if let Some(quorum) = loaded.policy.requirement(RuleKind::Tag).and_then(|r| r.rule.quorum()) {
            judge.set_aside(quorum, &mut signatures);
        }
        self.trust.memory.saw(&signatures)?;
        let claimed = Claimed {
            project: repository.project(),
            name,
            id,
            object: Some(object),
            commit: (commit_id, commit),
        };
        let judged = VerifiedTag::verify(claimed, &judge);
        Ok(match judged {
            Ok(_) => JudgedObject {
                id: id.clone(),
                name: name.to_owned(),
                counts: true,
                signatures,
                refused: None,
            },
            Err(e) if !e.is_verdict() => return Err(e.into()),
            // The verdicts on the signatures say more than that there are not enough of them.
            Err(Refusal::Signatures { .. } | Refusal::Unsigned { .. }) => JudgedObject {
                id: id.clone(),
                name: name.to_owned(),
                counts: false,
                signatures,
                refused: None,
            },
            Err(e) => JudgedObject { signatures, ..refused(id, e.to_string()) },
        })
    }
}
