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
use crate::trust::history::Place;
use crate::trust::tag::claimed;
use crate::trust::{Court, Trust};

/// How many branches are named in a sentence.
const NAMED: usize = 5;

/// A ref of a mirror, and whether the verified view shows it.
#[derive(Debug, serde::Serialize)]
pub struct Standing {
    /// The ref.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What it names in the mirror.
    pub id: String,
    /// What it names in the view, where it is shown.
    pub shown: Option<String>,
    /// Why it is not shown as it is in the mirror.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// By whom refs are judged.
struct Bench<'a> {
    court: &'a Court,
    judge: Judge<'a>,
    by: JudgedBy,
}

/// Verified views of mirrors.
#[derive(Clone, Copy)]
pub struct Views<'a> {
    /// Which policy a project has.
    pub projects: ProjectFiles<'a>,
    /// Where mirrors and views are.
    pub repositories: Repositories<'a>,
    /// Who judges.
    pub trust: Trust<'a>,
    /// What was accepted before.
    pub facts: Facts<'a>,
    /// Who is told.
    pub progress: &'a dyn Progress,
}

impl Views<'_> {
    /// Makes `git/verified/<project>.git` show the refs that the policy accepts: tags by their signatures; branches, whose
    /// whole history has to be judged, only when `branches` says so, and until then where they were last accepted.
    pub fn show_accepted(&self, mirror: &GitMirror, policy: &str, branches: bool) -> Result<(), FarmError> {
        let view = self.repositories.view(mirror.project());
        let policy = self.trust.policies.get(policy)?;
        let court = match self.trust.keyring.certificates(&policy, &[]) {
            Ok(certificates) => Court { policy, certificates },
            Err(FarmError::Refused(e)) => {
                // Mirroring does not wait for keys; only nothing is accepted until they are here.
                self.progress.note(&format!("no ref of {} is accepted yet: {e}", mirror.project()));
                return Ok(mirror.show(&view, &BTreeMap::new(), &nothing_shown(mirror, &policy))?);
            }
            Err(e) => return Err(e),
        };
        let bench = self.bench(&court)?;
        let mut shown = BTreeMap::new();
        let judged = self.accepted_refs(mirror, &bench, branches, &mut shown);
        // Whatever ended it: what was accepted before by somebody else is not shown any longer.
        mirror.show(&view, &shown, &why_no_branch(mirror, &court.policy, &shown))?;
        judged
    }

    fn bench<'b>(&'b self, court: &'b Court) -> Result<Bench<'b>, FarmError> {
        let by = JudgedBy::new(court.policy.reference().digest, court.certificates.digest()?);
        Ok(Bench { court, judge: self.trust.judge(court), by })
    }

    fn accepted_refs(
        &self,
        mirror: &GitMirror,
        bench: &Bench<'_>,
        branches: bool,
        shown: &mut BTreeMap<String, String>,
    ) -> Result<(), FarmError> {
        let refs = mirror.refs()?;
        // Read once for all refs: one by one, many refs would take hours.
        let facts = self.facts.accepted_refs(mirror.project(), &bench.by)?;
        let view = self.shown_refs(mirror.project());
        let total = refs.len() as u64;
        for (at, (name, id)) in refs.into_iter().enumerate() {
            if at % 100 == 0 {
                self.progress.count(mirror.project(), at as u64, total, "refs judged");
            }
            if self.progress.cancel().load(Ordering::Relaxed) {
                return Err(stopped(mirror.project()).into());
            }
            let fact = Fact::AcceptedRef { project: mirror.project(), reference: &name, judged: &bench.by };
            let digest = Digest::of(id.as_bytes());
            let known = facts.get(&fact.name());
            if known == Some(&digest) {
                shown.insert(name, id);
                continue;
            }
            let Some(judged) = self.judged(mirror, bench, &name, &id, branches) else {
                // Where it was last accepted it still is.
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
                // One that cannot be judged, such as a tag of a file, hides no other.
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

    /// Whether the policy accepts a ref; nothing where that is not found out now: the history of a branch, unless
    /// `branches` are judged.
    fn judged(
        &self,
        mirror: &GitMirror,
        bench: &Bench<'_>,
        name: &str,
        id: &str,
        branches: bool,
    ) -> Option<Result<(), FarmError>> {
        let place = Place { project: mirror.project(), repository: mirror.path() };
        let Some(tag) = name.strip_prefix("refs/tags/") else {
            let can = branches && bench.court.policy.requirement(RuleKind::CommitChain).is_some();
            return can.then(|| self.trust.histories.verify(bench.court.bench(), place, id).map(drop));
        };
        // Of its values the one that is served; what else upstream said it is has no say in that.
        let judged = mirror.tag_at(tag, id).map_err(FarmError::from).and_then(|tag| {
            let claimed = claimed(mirror.project(), &tag);
            let verified = VerifiedTag::verify(claimed, &bench.judge).map_err(FarmError::from)?;
            let verified = self.trust.histories.complete(bench.court.bench(), place, verified)?;
            // A signature that is not remembered is judged by its own day the next time, too.
            let _ = self.trust.memory.saw(&verified.evidence().signatures);
            Ok(())
        });
        Some(judged)
    }

    /// Every ref of a project, or the named ones, and why the verified view does not show it. Only a branch that is named
    /// has its history judged for that.
    pub fn standings(&self, project: &str, names: &[String]) -> Result<Vec<Standing>, FarmError> {
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
        let court = match self.trust.keyring.certificates(&policy, &[]) {
            Ok(certificates) => Ok(Court { policy, certificates }),
            Err(FarmError::Refused(e)) => Err(e.to_string()),
            Err(e) => return Err(e),
        };
        let bench = court.as_ref().ok().map(|court| self.bench(court)).transpose()?;
        let mut standings = Vec::new();
        for (reference, id) in refs {
            let seen = shown.get(&reference).cloned();
            let why = match (&bench, &court) {
                _ if seen.as_ref() == Some(&id) => None,
                (Some(bench), _) => {
                    let judged = self.judged(&mirror, bench, &reference, &id, !names.is_empty());
                    Some(why_hidden(project, bench, judged)?)
                }
                (None, Err(why)) => Some(why.clone()),
                (None, Ok(_)) => None,
            };
            standings.push(Standing { reference, id, shown: seen, why });
        }
        Ok(standings)
    }

    /// What the view shows now.
    fn shown_refs(&self, project: &str) -> BTreeMap<String, String> {
        let view = GitMirror::existing(&self.repositories.view(project)).and_then(|view| view.refs());
        view.unwrap_or_default()
    }
}

/// Why a ref is not shown, by what was found out about it now.
fn why_hidden(
    project: &str,
    bench: &Bench<'_>,
    judged: Option<Result<(), FarmError>>,
) -> Result<String, FarmError> {
    let name = &bench.court.policy.reference().name;
    Ok(match judged {
        Some(Ok(())) => {
            format!("it is accepted now: the next sync or `hab-build mirror upkeep {project}` shows it")
        }
        Some(Err(e @ (FarmError::Refused(_) | FarmError::Mirror(_)))) => e.to_string(),
        Some(Err(e)) => return Err(e),
        None if bench.court.policy.requirement(RuleKind::CommitChain).is_none() => {
            format!("policy {name} judges tags only: it has no requirement for a branch's history")
        }
        None => format!(
            "its history was refused or not judged yet: `hab-build mirror view {project} BRANCH` judges it now"
        ),
    })
}

/// What whoever clones a view is told that shows nothing.
fn nothing_shown(mirror: &GitMirror, policy: &Policy) -> String {
    let (project, policy) = (mirror.project(), policy.reference().name);
    format!(
        "policy {policy} accepts no ref of {project} yet; on the farm, `hab-build mirror view {project}` says why"
    )
}

/// What whoever clones a view is told whose HEAD names no branch.
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

/// A person asked to stop while refs were judged.
fn stopped(project: &str) -> MirrorError {
    MirrorError::Stopped {
        what: format!("judging the refs of {project}"),
        then: "what was accepted already is remembered",
    }
}
