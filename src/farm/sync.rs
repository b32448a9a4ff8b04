//! Bringing a project's mirror up to date, and what follows from that: the record, and the view of what is accepted.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use hab_keys::tag::{Claimed, VerifiedTag};
use hab_keys::{Certificates, Judge, Policy, RuleKind};
use hab_mirror::git::{Accepted, Bounds, GitMirror, State, Synced, Upkeep, Wish};
use hab_mirror::projects::Project;
use hab_mirror::{Keep as _, MirrorError};
use hab_oci::Digest;

use super::progress::MirrorView;
use super::sources::{ACCEPTED_TAG, JOURNAL, TAKEN_TAG};
use super::{Farm, FarmError, open};

/// Under which kind the catalog remembers which refs a policy accepted.
const ACCEPTED_REF: &str = "git-ref-accepted";

impl Farm {
    /// Brings a project up to date.
    pub fn sync_project(&self, project: &Project) -> Result<Synced, FarmError> {
        if self.options.offline {
            return Err(MirrorError::Offline { what: project.name.clone() }.into());
        }
        let (mirror, wish) = self.open_mirror(project)?;
        let synced = mirror.sync(&wish, &MirrorView(self.progress.as_ref()));
        let mut state = mirror.state();
        state.tried = Some(open::now());
        match &synced {
            Ok(synced) => {
                let upstream = Some(synced.upstream.clone());
                state = State { succeeded: state.tried, upstream, failures: 0, error: None, ..state };
            }
            Err(MirrorError::Cancelled { .. }) => {}
            Err(e) => {
                state.failures = state.failures.saturating_add(1);
                state.error = Some(e.to_string());
            }
        }
        let recorded = mirror.record(&state);
        let synced = synced?;
        recorded?;
        self.synced(&mirror, project.policy.as_deref())?;
        Ok(synced)
    }

    /// What follows from every change of a mirror.
    pub(super) fn synced(&self, mirror: &GitMirror, policy: Option<&str>) -> Result<(), FarmError> {
        self.remember_journal(mirror)?;
        match policy {
            Some(policy) => self.show_accepted(mirror, &self.policy(policy)?, false),
            // What was accepted by a policy that is gone is accepted by nobody.
            None if self.view_path(mirror.project()).exists() => {
                Ok(mirror.show(&self.view_path(mirror.project()), &BTreeMap::new())?)
            }
            None => Ok(()),
        }
    }

    /// A project's mirror, made where it is not there, and what is wanted of its upstreams.
    pub(super) fn open_mirror<'p>(&self, project: &'p Project) -> Result<(GitMirror, Wish<'p>), FarmError> {
        let folder = self.git_folder()?;
        let mirror = match &project.fork_of {
            Some(of) => GitMirror::open_fork(&folder, &project.name, of)?,
            None => GitMirror::open(&folder, &project.name)?,
        };
        let wish = Wish {
            urls: &project.urls,
            refs: &project.refs,
            allow: self.allowed(),
            tolerate: &project.tolerate,
            bounds: Bounds::default(),
            password_file: project.password_file.as_deref(),
        };
        Ok((mirror, wish))
    }

    /// Makes serving a project fast, and judges its branches where its policy can.
    pub fn keep_up(&self, project: &Project) -> Result<Upkeep, FarmError> {
        let mirror = self.mirrored(&project.name)?;
        let done = mirror.keep_up(true, &MirrorView(self.progress.as_ref()))?;
        if let Some(policy) = &project.policy {
            self.show_accepted(&mirror, &self.policy(policy)?, true)?;
        }
        Ok(done)
    }

    /// Decides about a ref that waits. What was accepted for builds before is judged anew.
    pub fn accept_ref(&self, project: &str, name: &str, value: Option<&str>) -> Result<Accepted, FarmError> {
        let mirror = self.mirrored(project)?;
        let accepted = mirror.accept(name, value, &MirrorView(self.progress.as_ref()))?;
        if let Some(tag) = accepted.reference.strip_prefix("refs/tags/") {
            for kind in [ACCEPTED_TAG, TAKEN_TAG] {
                let name = format!("{project} {tag}");
                let kept = |source| MirrorError::Keep { what: name.clone(), source };
                if self.keep.latest(kind, &name).map_err(kept)?.is_some() {
                    self.keep.remember(kind, &name, &nothing(), 0).map_err(kept)?;
                }
            }
        }
        let policy = self.project(project).ok().and_then(|p| p.policy);
        self.synced(&mirror, policy.as_deref())?;
        Ok(accepted)
    }

    /// Whoever remembers where the journal ended notices when its end is cut off.
    fn remember_journal(&self, mirror: &GitMirror) -> Result<(), FarmError> {
        let head = mirror.journal()?.head().clone();
        let kept = |source| MirrorError::Keep { what: mirror.project().to_owned(), source };
        self.keep.remember(JOURNAL, mirror.project(), &head, 0).map_err(kept)?;
        Ok(())
    }

    /// Makes `git/verified/<project>.git` show the refs that the policy accepts: tags by their signatures; branches, whose
    /// whole history has to be judged, only when `branches` says so, and until then where they were last accepted.
    fn show_accepted(&self, mirror: &GitMirror, policy: &Policy, branches: bool) -> Result<(), FarmError> {
        let certificates = match self.certificates(policy, &[]) {
            Ok(certificates) => certificates,
            Err(FarmError::Refused(e)) => {
                // Mirroring does not wait for keys; only nothing is accepted until they are here.
                self.progress.note(&format!("no ref of {} is accepted yet: {e}", mirror.project()));
                return Ok(mirror.show(&self.view_path(mirror.project()), &BTreeMap::new())?);
            }
            Err(e) => return Err(e),
        };
        let judge = self.judge(policy, &certificates);
        // Another certificate, or another revision of one, may be a revocation.
        let by = format!("{} {}", policy.reference().digest, certificates.digest()?);
        let mut shown = BTreeMap::new();
        let judged = self.accepted_refs(mirror, policy, (&certificates, &judge, &by), branches, &mut shown);
        // Whatever ended it: what was accepted before by somebody else is not shown any longer.
        mirror.show(&self.view_path(mirror.project()), &shown)?;
        judged
    }

    fn accepted_refs(
        &self,
        mirror: &GitMirror,
        policy: &Policy,
        (certificates, judge, by): (&Certificates, &Judge<'_>, &str),
        branches: bool,
        shown: &mut BTreeMap<String, String>,
    ) -> Result<(), FarmError> {
        let refs = mirror.refs()?;
        // Read once for all refs: one by one, many refs would take hours.
        let facts = self.accepted_before(mirror)?;
        let view = GitMirror::existing(&self.view_path(mirror.project())).and_then(|view| view.refs());
        let view = view.unwrap_or_default();
        let (total, what) = (refs.len() as u64, format!("{} (refs judged)", mirror.project()));
        for (at, (name, id)) in refs.into_iter().enumerate() {
            if at % 100 == 0 {
                self.progress.amount(&what, at as u64, Some(total));
            }
            if self.progress.cancel().load(Ordering::Relaxed) {
                return Err(MirrorError::Cancelled { what: mirror.project().to_owned() }.into());
            }
            let fact = format!("{} {name} {by}", mirror.project());
            let digest = Digest::of(id.as_bytes());
            let kept = |source| MirrorError::Keep { what: name.clone(), source };
            let known = facts.get(&fact);
            if known == Some(&digest) {
                shown.insert(name, id);
                continue;
            }
            let accepted = if let Some(tag) = name.strip_prefix("refs/tags/") {
                // Of its values the one that is served; what else upstream said it is has no say in that.
                let Ok(tag) = mirror.tag_at(tag, &id) else { continue };
                let claimed = Claimed {
                    project: mirror.project(),
                    name: &tag.name,
                    id: &tag.id,
                    object: tag.object.as_deref(),
                    commit: (&tag.commit_id, &tag.commit),
                };
                let verified = VerifiedTag::verify(claimed, judge).map_err(FarmError::from);
                verified.and_then(|tag| self.settled(mirror.project(), policy, tag)).map(|tag| {
                    let _ = self.saw(&tag.evidence().signatures);
                })
            } else if branches && policy.requirement(RuleKind::CommitChain).is_some() {
                self.chain(policy, certificates, (mirror.project(), mirror.path()), &id).map(drop)
            } else {
                // Where it was last accepted it still is.
                let before = view.get(&name).filter(|id| known == Some(&Digest::of(id.as_bytes())));
                if let Some(before) = before {
                    shown.insert(name, before.clone());
                }
                continue;
            };
            match accepted {
                Ok(()) => {
                    self.keep.remember(ACCEPTED_REF, &fact, &digest, 0).map_err(kept)?;
                    shown.insert(name, id);
                }
                Err(FarmError::Refused(e)) if e.is_verdict() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Which value of which ref was accepted by whom.
    fn accepted_before(&self, mirror: &GitMirror) -> Result<BTreeMap<String, Digest>, FarmError> {
        let kept = |source| MirrorError::Keep { what: mirror.project().to_owned(), source };
        let facts = self.keep.names_below(ACCEPTED_REF, &format!("{} ", mirror.project())).map_err(kept)?;
        Ok(facts.into_iter().map(|fact| (fact.name, fact.digest)).collect())
    }

    fn view_path(&self, project: &str) -> std::path::PathBuf {
        self.options.data.join("git/verified").join(format!("{project}.git"))
    }

    pub(super) fn git_folder(&self) -> Result<std::path::PathBuf, FarmError> {
        let folder = self.options.data.join("git");
        std::fs::create_dir_all(&folder).map_err(FarmError::io(&folder))?;
        Ok(folder)
    }
}

/// What stands for "judge it anew" where a digest of something accepted would be.
pub(super) fn nothing() -> Digest {
    Digest::of(b"")
}
