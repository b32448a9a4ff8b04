//! Bringing a project's mirror up to date, and what follows from that: the record, and the view of what is accepted.

use std::collections::BTreeMap;

use hab_mirror::git::{Accepted, Bounds, GitMirror, Lacking, State, Synced, Upkeep, Wish};
use hab_mirror::projects::Project;
use hab_mirror::{Fault, Keep as _, MirrorError};
use hab_oci::{Digest, few, shown};

use super::progress::MirrorView;
use super::sources::{ACCEPTED_TAG, JOURNAL, TAKEN_TAG};
use super::{Farm, FarmError, chain, open};

/// How many submodules are named in a sentence.
const NAMED: usize = 5;

impl Farm {
    /// Brings a project up to date.
    pub fn sync_project(&self, project: &Project) -> Result<Synced, FarmError> {
        if self.options.offline {
            return Err(MirrorError::Offline { what: project.name.clone() }.into());
        }
        let before = self.removed_before(&project.name)?;
        let (mirror, wish) = self.open_mirror(project)?;
        let mut synced = mirror.sync(&wish, &MirrorView(self.progress.as_ref()));
        let mut state = mirror.state();
        state.tried = Some(open::now());
        match &mut synced {
            Ok(synced) => {
                let (upstream, left_out) = (Some(synced.upstream.clone()), synced.left_out.len());
                state =
                    State { succeeded: state.tried, upstream, failures: 0, error: None, left_out, ..state };
                if synced.changes > 0 || synced.head.is_some() || state.lacking.is_none() {
                    state.lacking = self.lacking(&mirror);
                    synced.lacking.clone_from(&state.lacking);
                }
            }
            Err(e) if e.fault() == Fault::Cancelled => {}
            Err(e) => {
                state.failures = state.failures.saturating_add(1);
                state.errors = state.errors.saturating_add(1);
                state.error = Some(chain(e));
            }
        }
        let recorded = mirror.record(&state);
        let synced = synced?;
        recorded?;
        if let Some(before) = before {
            self.compare_with_removed(&mirror, &before)?;
        }
        self.synced(&mirror, project.policy.as_deref())?;
        Ok(synced)
    }

    /// What belongs to a project and is not mirrored with it, which is told. A mirror whose files do not read is told when
    /// they are needed.
    pub(super) fn lacking(&self, mirror: &GitMirror) -> Option<Lacking> {
        let lacking = mirror.lacking().ok()?;
        let project = mirror.project();
        if !lacking.submodules.is_empty() {
            let named = few(lacking.submodules.iter().map(|s| shown(&s.path)), NAMED, ", ");
            self.progress.note(&format!(
                "{project}: not mirrored with it, because they are repositories of their own (submodules): {named}"
            ));
        }
        if lacking.lfs_files > 0 {
            let (files, bytes) = (lacking.lfs_files, lacking.lfs_bytes);
            let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
            self.progress.note(&format!(
                "{project}: not mirrored with it, because Git LFS keeps them elsewhere: {files} of {bytes} bytes"
            ));
        }
        Some(lacking)
    }

    /// What follows from every change of a mirror.
    pub(super) fn synced(&self, mirror: &GitMirror, policy: Option<&str>) -> Result<(), FarmError> {
        self.remember_journal(mirror)?;
        match policy {
            Some(policy) => self.show_accepted(mirror, &self.policy(policy)?, false),
            // What was accepted by a policy that is gone is accepted by nobody.
            None if self.view_path(mirror.project()).exists() => {
                let why = format!("{} has no policy, so no ref of it is accepted", mirror.project());
                Ok(mirror.show(&self.view_path(mirror.project()), &BTreeMap::new(), &why)?)
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

    pub(super) fn git_folder(&self) -> Result<std::path::PathBuf, FarmError> {
        let folder = self.options.data.join("git");
        std::fs::create_dir_all(&folder).map_err(FarmError::io(&folder))?;
        Ok(folder)
    }
}

/// A person asked to stop while refs were judged.
pub(super) fn stopped(project: &str) -> MirrorError {
    MirrorError::Stopped {
        what: format!("judging the refs of {project}"),
        then: "what was accepted already is remembered",
    }
}

/// What stands for "judge it anew" where a digest of something accepted would be.
pub(super) fn nothing() -> Digest {
    Digest::of(b"")
}
