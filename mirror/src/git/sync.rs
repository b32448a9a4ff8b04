//! One sync: asks every upstream for its refs, fetches missing objects into quarantine, records changes in the journal,
//! and only then moves refs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use git2::Oid;
use hab_oci::shown;

use super::blame::stopped;
use super::change::{Action, KnownRefs, Step, UpstreamRefs};
use super::journal::{Change, Journal};
use super::packed::write_packed;
use super::program::{Few, Git, RefUpdate};
use super::quarantine;
use super::refs::RefPattern;
use super::remote::{Remote, remotes};
use super::room::{Fitting, LeftOut, beside};
use super::url::{Allow, without_user};
use super::{Bounds, GitMirror, Lacking};
use crate::{MirrorError, Observer};

/// What to sync, and from where.
#[derive(Clone, Copy)]
pub struct SyncRequest<'a> {
    /// Upstreams, the preferred one first. The first that answers decides; the tags of the others are compared with its
    /// tags.
    pub urls: &'a [String],
    /// Which refs to mirror.
    pub refs: &'a [RefPattern],
    /// Which transports are allowed besides https, ssh and git.
    pub allow: Allow,
    /// fsck checks that this history is known to fail.
    pub tolerate: &'a [String],
    /// Limits on what an upstream may make git use.
    pub bounds: Bounds,
    /// A file whose first line is the password for the user in one of the addresses.
    pub password_file: Option<&'a Path>,
}

impl std::fmt::Debug for SyncRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(|url| without_user(url)).collect();
        f.debug_struct("SyncRequest").field("urls", &urls).field("refs", &self.refs).finish_non_exhaustive()
    }
}

/// What a sync did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Synced {
    /// The upstream that decided.
    pub upstream: String,
    /// The number of refs that were moved or created.
    pub moved: usize,
    /// The number of changes recorded in the journal.
    pub changes: usize,
    /// The refs that wait for a person's decision.
    pub frozen: Vec<String>,
    /// The number of refs here that upstream has deleted.
    pub deleted: usize,
    /// The branch that HEAD names now, if it named another one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Refs of upstream that are not mirrored, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// What belongs to the project and is not in its repository; `None` if that was not searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacking: Option<Lacking>,
}

impl GitMirror {
    /// Brings the mirror up to date. Only one process syncs a project at a time; others wait. No ref is lost, even if
    /// the process is killed at any point.
    pub fn sync(&self, wish: &SyncRequest<'_>, observer: &dyn Observer) -> Result<Synced, MirrorError> {
        for url in wish.urls {
            wish.allow.check(url)?;
        }
        let remotes = remotes(wish.urls, wish.password_file)?;
        for remote in remotes.iter().filter(|remote| remote.is_exposed()) {
            observer.note(&format!(
                "{}: a password stands in the address of {}; keep it in a file and name that as password-file in hab.toml, \
                 [git.{}]",
                self.project,
                remote.name(),
                self.project
            ));
        }
        let _alone = self.lock(observer)?;
        let git = Git {
            project: &self.project,
            allow: wish.allow,
            bounds: wish.bounds,
            tolerate: wish.tolerate,
            observer,
        };
        let mut journal = self.journal()?;
        let here = self.heal(&git, &journal)?;
        let wanted = |name: &str| wish.refs.iter().any(|pattern| pattern.matches(name));
        let refs: BTreeMap<_, _> =
            here.iter().filter(|(name, _)| wanted(name)).map(|(name, id)| (name.clone(), *id)).collect();
        let mut asked = self.ask(&git, wish, &remotes, refs.len())?;
        for wiped in &asked.wiped {
            let steps = KnownRefs { refs: &refs, journal: &journal, contains: &|_, _| false }.gone(wiped);
            let seen: Vec<_> = steps.into_iter().map(|step| step.seen).collect();
            journal.append(hab_clock::now(), &seen)?;
        }
        let quarantine = self.bring(&git, wish, &here, &mut asked);
        if quarantine.is_err() {
            // Leftovers would only take space until the next sync.
            quarantine::clear(&self.quarantine())?;
        }
        if let Some(quarantine) = quarantine? {
            quarantine.release()?;
        }
        let leads = asked.told.first().map(|told| told.remote.name()) == remotes.first().map(Remote::name);
        let head = asked.told.first_mut().and_then(|told| told.head.take());
        let answers: Vec<_> = asked.told.into_iter().map(|t| t.answer).collect();
        let mut synced = self.apply(&git, wish, &here, &mut journal, &answers)?;
        synced.head = self.follow_head(
            &mut journal,
            &synced.upstream,
            head.as_ref(),
            leads,
            here.is_empty(),
            observer,
        )?;
        Ok(synced)
    }

    /// Records the changes in the upstreams' answers, and moves the refs.
    pub(super) fn apply(
        &self,
        git: &Git<'_>,
        wish: &SyncRequest<'_>,
        here: &BTreeMap<String, Oid>,
        journal: &mut Journal,
        answers: &[UpstreamRefs],
    ) -> Result<Synced, MirrorError> {
        let upstream = answers.first().map(|answer| answer.upstream.clone()).unwrap_or_default();
        let wanted = |name: &str| wish.refs.iter().any(|pattern| pattern.matches(name));
        let refs = here.iter().filter(|(name, _)| wanted(name)).map(|(n, id)| (n.clone(), *id)).collect();
        let steps = self.steps(&refs, journal, answers, git.observer);
        // A cancelled comparison of histories gives no valid result.
        if git.observer.cancelled() {
            return Err(stopped(&self.project));
        }
        let Fitting { steps, left_out } = self.fitting(here, journal, answers, steps, git.observer)?;
        let seen: Vec<_> = steps.iter().map(|step| step.seen.clone()).collect();
        let changes = journal.append(hab_clock::now(), &seen)?;
        let moved = self.act(git, here, &steps)?;
        let mut waits = Few::new(git.observer, &self.project);
        for step in steps.iter().filter(|step| step.seen.kind.freezes()) {
            let (kind, name, ours) = (step.seen.kind, &step.seen.reference, step.seen.old.as_deref());
            waits.tell(&format!(
                "{name} is {kind} at {}: it stays at {} until `hab-build mirror accept {} {name}`",
                shown(&step.seen.upstream),
                ours.unwrap_or_default(),
                self.project,
                name = shown(name),
            ));
        }
        drop(waits);
        let frozen = journal.frozen().into_iter().map(str::to_owned).collect();
        let deleted = journal.newest(Change::Deleted).len();
        Ok(Synced { upstream, moved, changes, frozen, deleted, head: None, left_out, lacking: None })
    }

    /// Moves all refs at once; returns how many.
    fn act(&self, git: &Git<'_>, here: &BTreeMap<String, Oid>, steps: &[Step]) -> Result<usize, MirrorError> {
        let mut names: BTreeSet<String> = here.keys().cloned().collect();
        let (mut asides, mut updates) = (Vec::new(), Vec::new());
        let mut moved = 0;
        for Step { seen, action } in steps {
            let name = &seen.reference;
            match action {
                Action::Move(new) => {
                    moved += 1;
                    let old = Some(here.get(name).copied().unwrap_or(Oid::ZERO_SHA1));
                    updates.push(RefUpdate { name: name.clone(), new: *new, old });
                }
                Action::Beside(id) => updates.push(beside(&mut names, name, *id)),
                Action::Aside(id) => {
                    asides.push(beside(&mut names, name, *id));
                    asides.push(RefUpdate::remove(name, *id));
                }
                Action::Nothing => {}
            }
        }
        if here.is_empty() {
            let refs = updates.into_iter().map(|u| (u.name, u.new)).collect();
            write_packed(&self.path, &refs)?;
            return Ok(moved);
        }
        // git cannot remove a ref and create one in its place in the same transaction.
        self.move_refs(git, &asides)?;
        self.move_refs(git, &updates)?;
        Ok(moved)
    }

    /// The refs of every project in this object store: an upstream need not send what they reach.
    pub(super) fn known(&self) -> Result<BTreeMap<String, Oid>, MirrorError> {
        let mut known = BTreeMap::new();
        for (at, repository) in self.sharers()?.iter().enumerate() {
            for reference in repository.references().map_err(self.broken())? {
                let reference = reference.map_err(self.broken())?;
                if let (Ok(name), Some(id)) = (reference.name(), reference.target()) {
                    known.insert(format!("refs/known/{at}/{}", name.trim_start_matches("refs/")), id);
                }
            }
        }
        Ok(known)
    }
}
