//! The verified view of a mirror: which of its refs a policy accepts, and why the others are missing.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use hab_keys::tag::VerifiedTag;
use hab_keys::{Judge, Policy, RuleKind};
use hab_mirror::MirrorError;
use hab_mirror::git::GitMirror;
use hab_oci::{Digest, few};

use crate::error::FarmError;
use crate::facts::{Fact, Facts, JudgedBy};
use crate::mirrors::projects::ProjectFiles;
use crate::mirrors::repositories::Repositories;
use crate::progress::Progress;
use crate::trust::Trust;
use crate::trust::history::ProjectRepository;
use crate::trust::loaded::LoadedPolicy;
use crate::trust::tag::claimed;

/// The most branches that one sentence names.
const NAMED: usize = 5;

/// A ref of a mirror, and whether the verified view shows it.
#[derive(Debug, serde::Serialize)]
pub struct RefState {
    /// The ref's name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Its value in the mirror.
    pub id: String,
    /// Its value in the view, if the view shows it.
    pub shown: Option<String>,
    /// Why the view does not show the mirror's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The policy, certificates and judge by which refs are judged.
struct RefJudge<'a> {
    loaded: &'a LoadedPolicy,
    judge: Judge<'a>,
    judged: JudgedBy,
}

/// Verified views of mirrors.
#[derive(Clone, Copy)]
pub struct Views<'a> {
    /// The projects, which name their policies.
    pub projects: ProjectFiles<'a>,
    /// The repositories of mirrors and views.
    pub repositories: Repositories<'a>,
    /// Judges refs.
    pub trust: Trust<'a>,
    /// Remembers what was accepted before.
    pub facts: Facts<'a>,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl Views<'_> {
    /// Makes `git/verified/<project>.git` show the refs that the policy accepts. Tags are judged by their signatures. A
    /// branch's whole history must be judged, which happens only with `branches`; until then the view shows its last
    /// accepted value.
    pub fn show_accepted(&self, mirror: &GitMirror, policy: &str, branches: bool) -> Result<(), FarmError> {
        let view = self.repositories.view(mirror.project());
        let policy = self.trust.policies.get(policy)?;
        let loaded = match self.trust.keyring.certificates(&policy, &[]) {
            Ok(certificates) => LoadedPolicy { policy, certificates },
            Err(FarmError::Refused(e)) => {
                // Mirroring goes on without keys, but nothing is accepted until they are here.
                self.progress.note(&format!("no ref of {} is accepted yet: {e}", mirror.project()));
                return Ok(mirror.show(&view, &BTreeMap::new(), &nothing_shown(mirror, &policy))?);
            }
            Err(e) => return Err(e),
        };
        let by = self.ref_judge(&loaded)?;
        let mut shown = BTreeMap::new();
        let judged = self.accepted_refs(mirror, &by, branches, &mut shown);
        // Update the view even after an error: what an earlier policy accepted must not stay visible.
        mirror.show(&view, &shown, &why_no_branch(mirror, &loaded.policy, &shown))?;
        judged
    }

    fn ref_judge<'b>(&'b self, loaded: &'b LoadedPolicy) -> Result<RefJudge<'b>, FarmError> {
        let judged = JudgedBy::new(loaded.policy.reference().digest, loaded.certificates.digest()?);
        Ok(RefJudge { loaded, judge: self.trust.judge(loaded), judged })
    }

    fn accepted_refs(
        &self,
        mirror: &GitMirror,
        by: &RefJudge<'_>,
        branches: bool,
        shown: &mut BTreeMap<String, String>,
    ) -> Result<(), FarmError> {
        let refs = mirror.refs()?;
        // Read once for all refs, because reading one ref at a time would take hours for many refs.
        let facts = self.facts.accepted_refs(mirror.project(), &by.judged)?;
        let view = self.shown_refs(mirror.project());
        let total = refs.len() as u64;
        for (at, (name, id)) in refs.into_iter().enumerate() {
            if at % 100 == 0 {
                self.progress.count(mirror.project(), at as u64, total, "refs judged");
            }
            if self.progress.cancel().load(Ordering::Relaxed) {
                return Err(stopped(mirror.project()).into());
            }
            let fact = Fact::AcceptedRef { project: mirror.project(), reference: &name, judged: &by.judged };
            let digest = Digest::of(id.as_bytes());
            let known = facts.get(&fact.name());
            if known == Some(&digest) {
                shown.insert(name, id);
                continue;
            }
            let Some(judged) = self.judged(mirror, by, &name, &id, branches) else {
                // The value that was last accepted is still accepted.
                let before = view.get(&name).filter(|id| known == Some(&Digest::of(id.as_bytes())));
                if let Some(before) = before {
                    shown.insert(name, before.clone());
                }
                continue;
            };
            match judged {
                Ok(()) => {
                    self.facts.remember(&fact, &digest, 0)?;
                    shown.insert(name, id);
                }
                Err(FarmError::Refused(e)) if e.is_verdict() => {}
                // A ref that cannot be judged, such as a tag of a file, must not hide the others.
                Err(FarmError::Mirror(MirrorError::Malformed { .. })) => {}
                Err(FarmError::Mirror(e @ MirrorError::Missing { .. })) => {
                    let project = mirror.project();
                    self.progress
                        .note(&format!("{} of {project} cannot be judged: {e}", hab_oci::shown(&name)));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Whether the policy accepts a ref. Returns `None` for a branch unless `branches` is set, because its history is
    /// not judged now.
    fn judged(
        &self,
        mirror: &GitMirror,
        by: &RefJudge<'_>,
        name: &str,
        id: &str,
        branches: bool,
    ) -> Option<Result<(), FarmError>> {
        let place = ProjectRepository { project: mirror.project(), repository: mirror.path() };
        let Some(tag) = name.strip_prefix("refs/tags/") else {
            let can = branches && by.loaded.policy.requirement(RuleKind::CommitChain).is_some();
            return can.then(|| self.trust.histories.verify(by.loaded, place, id).map(drop));
        };
        // Judge the tag's value that is served. Other values that upstream gave the tag do not matter here.
        let judged = mirror.tag_at(tag, id).map_err(FarmError::from).and_then(|tag| {
            let claimed = claimed(mirror.project(), &tag);
            let verified = VerifiedTag::verify(claimed, &by.judge).map_err(FarmError::from)?;
            let verified = self.trust.histories.complete(by.loaded, place, verified)?;
            // Ignore an error: a signature that is not remembered is judged by its own date the next time, too.
            let _ = self.trust.memory.saw(&verified.evidence().signatures);
            Ok(())
        });
        Some(judged)
    }

    /// Every ref of a project, or only the named ones, each with the reason why the verified view does not show it.
    /// Judges a branch's history only if the branch is named.
    pub fn standings(&self, project: &str, names: &[String]) -> Result<Vec<RefState>, FarmError> {
        let mirror = self.repositories.get(project)?;
        let policy = self.projects.all()?.get(project).and_then(|p| p.policy.clone());
        let policy = policy.ok_or_else(|| {
            FarmError::Usage(format!(
                "{project} has no policy, so no ref of it is judged; `policy` in its project file names one"
            ))
        })?;
        let policy = self.trust.policies.get(&policy)?;
        let mut refs = mirror.refs()?;
        if !names.is_empty() {
            let fits = |full: &str| names.iter().any(|n| full == n || full.ends_with(&format!("/{n}")));
            refs.retain(|name, _| fits(name));
            if refs.is_empty() {
                let named = names.join(" or ");
                return Err(FarmError::Usage(format!(
                    "{project} has no ref {named}; `git ls-remote` lists them"
                )));
            }
        }
        let shown = self.shown_refs(project);
        let loaded = match self.trust.keyring.certificates(&policy, &[]) {
            Ok(certificates) => Ok(LoadedPolicy { policy, certificates }),
            Err(FarmError::Refused(e)) => Err(e.to_string()),
            Err(e) => return Err(e),
        };
        let by = loaded.as_ref().ok().map(|loaded| self.ref_judge(loaded)).transpose()?;
        let mut standings = Vec::new();
        for (reference, id) in refs {
            let seen = shown.get(&reference).cloned();
            let why = match (&by, &loaded) {
                _ if seen.as_ref() == Some(&id) => None,
                (Some(by), _) => {
                    let judged = self.judged(&mirror, by, &reference, &id, !names.is_empty());
                    Some(why_hidden(project, by, judged)?)
                }
                (None, Err(why)) => Some(why.clone()),
                (None, Ok(_)) => None,
            };
            standings.push(RefState { reference, id, shown: seen, why });
        }
        Ok(standings)
    }

    /// The refs that the view shows now.
    fn shown_refs(&self, project: &str) -> BTreeMap<String, String> {
        let view = GitMirror::existing(&self.repositories.view(project)).and_then(|view| view.refs());
        view.unwrap_or_default()
    }
}

/// Why the view does not show a ref, given the judgement made now.
fn why_hidden(
    project: &str,
    by: &RefJudge<'_>,
    judged: Option<Result<(), FarmError>>,
) -> Result<String, FarmError> {
    let name = &by.loaded.policy.reference().name;
    Ok(match judged {
        Some(Ok(())) => {
            format!("it is accepted now: the next sync or `hab-build mirror upkeep {project}` shows it")
        }
        Some(Err(e @ (FarmError::Refused(_) | FarmError::Mirror(_)))) => e.to_string(),
        Some(Err(e)) => return Err(e),
        None if by.loaded.policy.requirement(RuleKind::CommitChain).is_none() => {
            format!("policy {name} judges tags only: it has no requirement for a branch's history")
        }
        None => format!(
            "its history was refused or not judged yet: `hab-build mirror view {project} BRANCH` judges it now"
        ),
    })
}

/// The message to a client that clones a view which shows nothing.
fn nothing_shown(mirror: &GitMirror, policy: &Policy) -> String {
    let (project, policy) = (mirror.project(), policy.reference().name);
    format!(
        "policy {policy} accepts no ref of {project} yet; on the farm, `hab-build mirror view {project}` says why"
    )
}

/// The message to a client that clones a view whose HEAD names no branch.
fn why_no_branch(mirror: &GitMirror, policy: &Policy, refs: &BTreeMap<String, String>) -> String {
    if refs.is_empty() {
        return nothing_shown(mirror, policy);
    }
    let branches = refs.keys().filter_map(|name| name.strip_prefix("refs/heads/")).map(hab_oci::shown);
    let branches = few(branches, NAMED, ", ");
    let head = mirror.head().unwrap_or_else(|| "the branch that HEAD names".to_owned());
    let (head, policy) = (hab_oci::shown(&head).to_string(), policy.reference().name);
    let instead = if branches.is_empty() {
        "no branch is, so check out a tag".to_owned()
    } else {
        format!("check out a tag, or one of {branches}")
    };
    format!("nothing is checked out: {head} is not accepted by policy {policy}; {instead}")
}

/// The error if a person asks to stop while refs are judged.
fn stopped(project: &str) -> MirrorError {
    MirrorError::Stopped {
        what: format!("judging the refs of {project}"),
        then: "what was accepted already is remembered",
    }
}
