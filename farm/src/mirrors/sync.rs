//! Syncs a project's mirror, and then updates its record and its verified view.

use std::collections::BTreeMap;

use hab_mirror::git::{Accepted, Bounds, GitMirror, Lacking, State, SyncRequest, Synced, Upkeep};
use hab_mirror::projects::Project;
use hab_mirror::{Fault, MirrorError};
use hab_oci::{few, shown};

use super::Mirrors;
use crate::error::FarmError;
use crate::facts::Fact;
use crate::progress::MirrorView;
use hab_chain::chain;
use hab_clock::now;

/// The most submodules that one sentence names.
const NAMED: usize = 5;

impl Mirrors<'_> {
    /// Syncs a project.
    pub fn sync(&self, project: &Project) -> Result<Synced, FarmError> {
        if self.fetching.offline {
            return Err(MirrorError::Offline { what: project.name.clone() }.into());
        }
        let before = self.removed_before(&project.name)?;
        let (mirror, wish) = self.open(project)?;
        let mut synced = mirror.sync(&wish, &MirrorView(self.progress));
        let mut state = mirror.state();
        state.tried = Some(now());
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
        self.after_change(&mirror, project.policy.as_deref())?;
        Ok(synced)
    }

    /// Notes and returns what belongs to a project and is not mirrored with it. Returns `None` for a mirror whose files
    /// cannot be read; that error comes when they are needed.
    pub fn lacking(&self, mirror: &GitMirror) -> Option<Lacking> {
        let lacking = mirror.lacking().ok()?;
        let project = mirror.project();
        if !lacking.submodules.is_empty() {
            let named = few(lacking.submodules.iter().map(|s| shown(&s.path)), NAMED, ", ");
            self.progress.note(&format!(
                "{project}: not mirrored, because they are repositories of their own (submodules): {named}"
            ));
        }
        if lacking.lfs_files > 0 {
            let (files, bytes) = (lacking.lfs_files, lacking.lfs_bytes);
            let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
            self.progress.note(&format!(
                "{project}: not mirrored, because Git LFS keeps them elsewhere: {files} of {bytes} bytes"
            ));
        }
        Some(lacking)
    }

    /// Updates everything that depends on a mirror, after each change of it.
    pub fn after_change(&self, mirror: &GitMirror, policy: Option<&str>) -> Result<(), FarmError> {
        self.remember_journal(mirror)?;
        match policy {
            Some(policy) => self.views.show_accepted(mirror, policy, false),
            // Without its policy, nothing is accepted any longer, so the view becomes empty.
            None if self.repositories.view(mirror.project()).exists() => {
                let why = format!("{} has no policy, so no ref of it is accepted", mirror.project());
                Ok(mirror.show(&self.repositories.view(mirror.project()), &BTreeMap::new(), &why)?)
            }
            None => Ok(()),
        }
    }

    /// Opens a project's mirror, creating it if it is missing, and returns what to ask of its upstreams.
    pub fn open<'p>(&self, project: &'p Project) -> Result<(GitMirror, SyncRequest<'p>), FarmError> {
        let folder = self.repositories.folder()?;
        let mirror = match &project.fork_of {
            Some(of) => GitMirror::open_fork(&folder, &project.name, of)?,
            None => GitMirror::open(&folder, &project.name)?,
        };
        let wish = SyncRequest {
            urls: &project.urls,
            refs: &project.refs,
            allow: self.projects.allowed(),
            tolerate: &project.tolerate,
            bounds: Bounds::default(),
            password_file: project.password_file.as_deref(),
        };
        Ok((mirror, wish))
    }

    /// Makes serving a project fast, and judges its branches if its policy can.
    pub fn keep_up(&self, project: &Project) -> Result<Upkeep, FarmError> {
        let mirror = self.repositories.get(&project.name)?;
        let done = mirror.keep_up(true, &MirrorView(self.progress))?;
        if let Some(policy) = &project.policy {
            self.views.show_accepted(&mirror, policy, true)?;
        }
        Ok(done)
    }

    /// Decides the value of a frozen ref. A tag that was accepted for builds before is judged anew.
    pub fn accept_ref(&self, project: &str, name: &str, value: Option<&str>) -> Result<Accepted, FarmError> {
        let mirror = self.repositories.get(project)?;
        let accepted = mirror.accept(name, value, &MirrorView(self.progress))?;
        if let Some(tag) = accepted.reference.strip_prefix("refs/tags/") {
            for fact in [Fact::AcceptedTag { project, tag }, Fact::UnsignedTag { project, tag }] {
                self.facts.withdraw(&fact)?;
            }
        }
        let policy = self.projects.get(project).ok().and_then(|p| p.policy);
        self.after_change(&mirror, policy.as_deref())?;
        Ok(accepted)
    }

    /// Remembers where the journal ended, so that a journal whose end was cut off is noticed.
    fn remember_journal(&self, mirror: &GitMirror) -> Result<(), FarmError> {
        let head = mirror.journal()?.head().clone();
        self.facts.remember(&Fact::RefJournal { project: mirror.project() }, &head, 0)?;
        Ok(())
    }
}
