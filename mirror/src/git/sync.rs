//! One sync: ask every upstream what it has, fetch what is missing into quarantine, write down what changed, and only
//! then move refs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use git2::Oid;
use hab_oci::shown;

use super::change::{Action, Answer, Step, is_tag};
use super::journal::Journal;
use super::packed::write_packed;
use super::program::{Few, Git, RefUpdate};
use super::quarantine::{self, Quarantine};
use super::refs::RefPattern;
use super::remote::{Remote, remotes};
use super::url::{Allow, without_user};
use super::{Bounds, GitMirror};
use crate::{MirrorError, Observer};

/// From where, and what.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    /// Upstreams, the preferred one first. The first that answers counts; the others' tags are compared with its.
    pub urls: &'a [String],
    /// Which refs.
    pub refs: &'a [RefPattern],
    /// Which transports beside https, ssh and git.
    pub allow: Allow,
    /// Checks of fsck that this history is known not to pass.
    pub tolerate: &'a [String],
    /// What an upstream may cost.
    pub bounds: Bounds,
    /// A file whose first line is the password of the user whom one of the addresses names.
    pub password_file: Option<&'a Path>,
}

impl std::fmt::Debug for Wish<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(|url| without_user(url)).collect();
        f.debug_struct("Wish").field("urls", &urls).field("refs", &self.refs).finish_non_exhaustive()
    }
}

/// What a sync did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Synced {
    /// The upstream whose refs counted.
    pub upstream: String,
    /// How many refs moved or were made.
    pub moved: usize,
    /// How many changes were written down.
    pub changes: usize,
    /// The refs that wait for a person.
    pub frozen: Vec<String>,
}

/// An upstream that answered, and what of it is wanted.
struct Told<'a> {
    remote: &'a Remote,
    answer: Answer,
    /// Whether it was asked a second time, because it could not give what it first said it has.
    again: bool,
}

impl GitMirror {
    /// Brings the mirror up to date. One process at a time; another waits. Whenever it ends or is killed, every ref that
    /// was here before is here still.
    pub fn sync(&self, wish: &Wish<'_>, observer: &dyn Observer) -> Result<Synced, MirrorError> {
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
        let mut last = None;
        let mut told = self.ask(&git, wish, &remotes, &mut last)?;
        // Whoever cannot give what it says it has is asked no more, and everything is begun anew without it.
        let (quarantine, head) = loop {
            let Some(first) = told.first() else {
                quarantine::clear(&self.quarantine())?;
                return Err(last.unwrap_or_else(|| self.no_upstream()));
            };
            let head = self.unborn()?.then(|| git.head(first.remote)).flatten();
            match self.fetch(&git, wish, &here, &mut told) {
                Ok(quarantine) => break (quarantine, head),
                Err((at, e @ MirrorError::Git { .. })) => {
                    if moved_on(&git, wish, &mut told[at]) {
                        continue;
                    }
                    if wish.urls.len() > 1 {
                        observer.note(&format!("{}: {e}", self.project));
                    }
                    told.remove(at);
                    last = Some(e);
                }
                Err((_, e)) => return Err(e),
            }
        };
        let head = head.or_else(|| quarantine.as_ref().and_then(Quarantine::head));
        if let Some(quarantine) = quarantine {
            quarantine.release()?;
        }
        let answers: Vec<_> = told.into_iter().map(|t| t.answer).collect();
        let synced = self.settle(&git, wish, &here, &mut journal, &answers)?;
        self.point_head(head.as_deref())?;
        Ok(synced)
    }

    /// Writes down what the answers change, and moves the refs that follow.
    pub(super) fn settle(
        &self,
        git: &Git<'_>,
        wish: &Wish<'_>,
        here: &BTreeMap<String, Oid>,
        journal: &mut Journal,
        answers: &[Answer],
    ) -> Result<Synced, MirrorError> {
        let upstream = answers.first().map(|answer| answer.upstream.clone()).unwrap_or_default();
        let wanted = |name: &str| wish.refs.iter().any(|pattern| pattern.matches(name));
        let refs = here.iter().filter(|(name, _)| wanted(name)).map(|(n, id)| (n.clone(), *id)).collect();
        let steps = self.steps(&refs, journal, answers, git.observer);
        // Where a history is compared, a person's wish to stop is no answer.
        if git.observer.cancelled() {
            return Err(MirrorError::Cancelled { what: self.project.clone() });
        }
        let steps = self.fitting(here, steps, git.observer)?;
        let seen: Vec<_> = steps.iter().map(|step| step.seen.clone()).collect();
        let changes = journal.append(now(), &seen)?;
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
        let frozen = journal.frozen().into_iter().map(str::to_owned).collect();
        Ok(Synced { upstream, moved, changes, frozen })
    }

    /// Asks every upstream for its refs. Those that do not answer are told, and left out.
    fn ask<'a>(
        &self,
        git: &Git<'_>,
        wish: &Wish<'_>,
        remotes: &'a [Remote],
        last: &mut Option<MirrorError>,
    ) -> Result<Vec<Told<'a>>, MirrorError> {
        let mut told = Vec::new();
        for remote in remotes {
            match listed(git, wish, remote) {
                Ok(refs) => {
                    let answer = Answer { upstream: remote.name().to_owned(), refs };
                    told.push(Told { remote, answer, again: false });
                }
                Err(e @ MirrorError::Git { .. }) => {
                    if wish.urls.len() > 1 {
                        git.observer.note(&format!("{}: {e}", self.project));
                    }
                    *last = Some(e);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(told)
    }

    /// Fetches into quarantine what is missing here: of the first upstream everything, of the others the tags that are
    /// not the same. On failure says whose fault it was.
    fn fetch<'g>(
        &'g self,
        git: &'g Git<'g>,
        wish: &Wish<'_>,
        here: &BTreeMap<String, Oid>,
        told: &mut [Told<'_>],
    ) -> Result<Option<Quarantine<'g>>, (usize, MirrorError)> {
        let first: BTreeMap<String, Oid> = told.first().map(|t| t.answer.refs.clone()).unwrap_or_default();
        let more: Vec<String> =
            wish.refs.iter().filter(|p| !p.is_branch_or_tag()).map(|p| p.clone().into()).collect();
        let mut quarantine: Option<Quarantine<'_>> = None;
        for (at, Told { remote, answer, .. }) in told.iter_mut().enumerate() {
            let differs =
                |name: &str, id: Oid| is_tag(name) && first.get(name).or(here.get(name)) != Some(&id);
            let wanted = answer.refs.iter().filter(|(name, id)| at == 0 || differs(name, **id));
            let mut missing = self.missing(git, here, wanted).map_err(|e| (at, e))?;
            if at > 0 {
                // A tag that only the others have is not taken from them.
                missing.retain(|name, _| first.contains_key(name) || here.contains_key(name));
            }
            if missing.is_empty() {
                continue;
            }
            let known = self.known().map_err(|e| (at, e))?;
            let fresh = known.is_empty() && quarantine.is_none();
            let mut place = match quarantine.take() {
                Some(place) => place,
                None => {
                    Quarantine::new(git, self.quarantine(), &self.objects, &known).map_err(|e| (at, e))?
                }
            };
            if fresh {
                let arrived = place.clone(remote, &more).map_err(|e| (at, e))?;
                for name in missing.keys() {
                    // It may have gone on since it was asked.
                    match arrived.get(name) {
                        Some(id) => answer.refs.insert(name.clone(), *id),
                        None => answer.refs.remove(name),
                    };
                }
            } else {
                place.fetch(remote, &missing.into_values().collect()).map_err(|e| (at, e))?;
            }
            quarantine = Some(place);
        }
        Ok(quarantine)
    }

    /// Leaves out what cannot be done: a ref that git could not hold, with everything else that was seen of it, and a value
    /// whose object did not come. One such ref must not hide all others.
    fn fitting(
        &self,
        here: &BTreeMap<String, Oid>,
        steps: Vec<Step>,
        observer: &dyn Observer,
    ) -> Result<Vec<Step>, MirrorError> {
        let mut names: BTreeSet<String> = here.keys().cloned().collect();
        let mut unfit = BTreeSet::new();
        let mut fits = Vec::new();
        let mut told = Few::new(observer, &self.project);
        for step in steps {
            let name = &step.seen.reference;
            let why = match step.action {
                _ if unfit.contains(name) => continue,
                Action::Move(id) | Action::Beside(id) if !self.holds(id)? => Some("its object did not come"),
                Action::Move(id) => self.unfit(&names, name, id),
                Action::Beside(_) | Action::Nothing => None,
            };
            if let Some(why) = why {
                told.tell(&format!("{} is not mirrored: {why}", shown(name)));
                unfit.insert(name.clone());
            } else {
                names.insert(name.clone());
                fits.push(step);
            }
        }
        Ok(fits)
    }

    /// Why git could not hold a ref of this name, if so.
    pub(super) fn unfit(&self, names: &BTreeSet<String>, name: &str, id: Oid) -> Option<&'static str> {
        let folder = format!("{name}/");
        let above = name.match_indices('/').any(|(at, _)| names.contains(&name[..at]));
        let below = names.range(folder.clone()..).next().is_some_and(|next| next.starts_with(&folder));
        if above || below {
            return Some("a ref that is here has a part of its name, or it of theirs");
        }
        let branch = name.starts_with("refs/heads/");
        (branch && self.repository.find_commit(id).is_err()).then_some("it is a branch, but names no commit")
    }

    /// Moves refs, all at once; returns how many.
    fn act(&self, git: &Git<'_>, here: &BTreeMap<String, Oid>, steps: &[Step]) -> Result<usize, MirrorError> {
        let mut updates = Vec::new();
        let mut moved = 0;
        for Step { seen, action } in steps {
            match action {
                Action::Move(new) => {
                    moved += 1;
                    let old = seen.old.as_deref().map_or(Ok(Oid::ZERO_SHA1), Oid::from_str);
                    let old = Some(old.map_err(self.broken())?);
                    updates.push(RefUpdate { name: seen.reference.clone(), new: *new, old });
                }
                Action::Beside(id) => updates.push(RefUpdate::beside(&seen.reference, *id)),
                Action::Nothing => {}
            }
        }
        if here.is_empty() {
            let refs = updates.into_iter().map(|u| (u.name, u.new)).collect();
            write_packed(&self.path, &refs)?;
            return Ok(moved);
        }
        self.move_refs(git, &updates)?;
        Ok(moved)
    }

    /// What an upstream need not send: everything that any project in this object store names.
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

    /// Whether HEAD names a branch that is not here yet.
    fn unborn(&self) -> Result<bool, MirrorError> {
        match self.repository.head() {
            Ok(_) => Ok(false),
            Err(e) if e.code() == git2::ErrorCode::UnbornBranch => {
                Ok(self.known().is_ok_and(|k| !k.is_empty()))
            }
            Err(e) => Err(self.broken()(e)),
        }
    }

    /// Lets HEAD name the branch that upstream's does, once, so that a clone checks something out.
    pub(super) fn point_head(&self, head: Option<&str>) -> Result<(), MirrorError> {
        if let Err(e) = self.repository.head()
            && e.code() == git2::ErrorCode::UnbornBranch
        {
            let wished = head.filter(|name| self.repository.find_reference(name).is_ok());
            let branches = self.targets("refs/heads/")?;
            let only = branches.keys().next().filter(|_| branches.len() == 1).map(String::as_str);
            if let Some(name) = wished.or(only) {
                self.repository.set_head(name).map_err(self.broken())?;
            }
        }
        Ok(())
    }

    fn no_upstream(&self) -> MirrorError {
        MirrorError::NoUpstream {
            what: self.project.clone(),
            advice: "name one in hab.toml, or with `hab-build mirror add`".to_owned(),
        }
    }
}

/// Whether an upstream says other refs than before, which it then means: it is asked once more only.
fn moved_on(git: &Git<'_>, wish: &Wish<'_>, told: &mut Told<'_>) -> bool {
    if std::mem::replace(&mut told.again, true) {
        return false;
    }
    match listed(git, wish, told.remote) {
        Ok(refs) if refs != told.answer.refs => {
            told.answer.refs = refs;
            true
        }
        _ => false,
    }
}

/// The refs of an upstream that are wanted.
fn listed(git: &Git<'_>, wish: &Wish<'_>, remote: &Remote) -> Result<BTreeMap<String, Oid>, MirrorError> {
    let all = !wish.refs.iter().all(RefPattern::is_branch_or_tag);
    let mut refs = git.ls_remote(remote, all)?;
    refs.retain(|name, _| wish.refs.iter().any(|pattern| pattern.matches(name)));
    Ok(refs)
}

pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX)
}
