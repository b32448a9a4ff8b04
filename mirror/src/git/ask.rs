//! Asks upstreams for their refs, and fetches missing objects into quarantine.

use std::collections::BTreeMap;

use git2::Oid;

use super::GitMirror;
use super::change::{UpstreamRefs, is_tag};
use super::program::{Git, Head, Listed};
use super::quarantine::Quarantine;
use super::remote::Remote;
use super::sync::SyncRequest;
use crate::{Fault, MirrorError};

/// An upstream that answered, with those of its refs that are wanted.
pub(super) struct Respondent<'a> {
    pub remote: &'a Remote,
    pub answer: UpstreamRefs,
    pub head: Option<Head>,
    /// Whether it was asked a second time, because it could not send what it first claimed to have.
    again: bool,
}

/// The outcome of asking all upstreams.
pub(super) struct Responses<'a> {
    /// Upstreams whose answers count, in the order of preference.
    pub told: Vec<Respondent<'a>>,
    /// Upstreams that have no refs any more.
    pub wiped: Vec<UpstreamRefs>,
    /// The error of an upstream that does not count.
    last: Option<MirrorError>,
}

impl Responses<'_> {
    /// Notes an upstream that does not count. A refusal is worth more as the final error than silence.
    fn leave_out(&mut self, git: &Git<'_>, wish: &SyncRequest<'_>, e: MirrorError) {
        if wish.urls.len() > 1 {
            git.observer.note(&format!("{}: {e}", git.project));
        }
        let weighs_more = |last: &MirrorError| last.fault() == Fault::Refused && e.fault() != Fault::Refused;
        if !self.last.as_ref().is_some_and(weighs_more) {
            self.last = Some(e);
        }
    }
}

impl GitMirror {
    /// Asks every upstream for its refs. Reports and leaves out each one that does not answer, uses another object
    /// format, or has no refs any more although `refs` of them are mirrored here.
    pub(super) fn ask<'a>(
        &self,
        git: &Git<'_>,
        wish: &SyncRequest<'_>,
        remotes: &'a [Remote],
        refs: usize,
    ) -> Result<Responses<'a>, MirrorError> {
        let mut asked = Responses { told: Vec::new(), wiped: Vec::new(), last: None };
        for remote in remotes {
            match listed(git, wish, remote) {
                Ok(listed) => {
                    let upstream = remote.name().to_owned();
                    let answer = UpstreamRefs { upstream: upstream.clone(), refs: listed.refs };
                    if answer.refs.is_empty() && refs > 0 {
                        asked.wiped.push(answer);
                        let project = self.project.clone();
                        asked.leave_out(git, wish, MirrorError::Wiped { project, url: upstream, refs });
                        continue;
                    }
                    if answer.refs.is_empty() {
                        git.observer.note(&format!("{}: {upstream} has no branch or tag yet", self.project));
                    }
                    asked.told.push(Respondent { remote, answer, head: listed.head, again: false });
                }
                Err(e @ (MirrorError::Git { .. } | MirrorError::ObjectFormat { .. })) => {
                    asked.leave_out(git, wish, e);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(asked)
    }

    /// Fetches missing objects. If an upstream cannot send what it claims to have, it is left out and everything begins
    /// again without it.
    pub(super) fn bring<'g>(
        &'g self,
        git: &'g Git<'g>,
        wish: &SyncRequest<'_>,
        here: &BTreeMap<String, Oid>,
        asked: &mut Responses<'_>,
    ) -> Result<Option<Quarantine<'g>>, MirrorError> {
        loop {
            if asked.told.is_empty() {
                return Err(asked.last.take().unwrap_or_else(|| self.no_upstream()));
            }
            match self.fetch(git, wish, here, &mut asked.told) {
                Ok(quarantine) => return Ok(quarantine),
                Err((at, e @ MirrorError::Git { .. })) => {
                    if moved_on(git, wish, &mut asked.told[at]) {
                        continue;
                    }
                    asked.told.remove(at);
                    asked.leave_out(git, wish, e);
                }
                Err((_, e)) => return Err(e),
            }
        }
    }

    /// Fetches into quarantine what is missing here: everything from the first upstream, and from the others only tags
    /// with another value. An error comes with the index of the upstream that failed.
    fn fetch<'g>(
        &'g self,
        git: &'g Git<'g>,
        wish: &SyncRequest<'_>,
        here: &BTreeMap<String, Oid>,
        told: &mut [Respondent<'_>],
    ) -> Result<Option<Quarantine<'g>>, (usize, MirrorError)> {
        let first: BTreeMap<String, Oid> = told.first().map(|t| t.answer.refs.clone()).unwrap_or_default();
        let more: Vec<String> =
            wish.refs.iter().filter(|p| !p.is_branch_or_tag()).map(|p| p.clone().into()).collect();
        let mut quarantine: Option<Quarantine<'_>> = None;
        for (at, Respondent { remote, answer, .. }) in told.iter_mut().enumerate() {
            let differs =
                |name: &str, id: Oid| is_tag(name) && first.get(name).or(here.get(name)) != Some(&id);
            let wanted = answer.refs.iter().filter(|(name, id)| at == 0 || differs(name, **id));
            let mut missing = self.missing(git, here, wanted).map_err(|e| (at, e))?;
            if at > 0 {
                // A tag that only other upstreams have is not taken from them.
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
                    // The branch may have moved since the refs were listed.
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

    fn no_upstream(&self) -> MirrorError {
        MirrorError::NoUpstream {
            what: self.project.clone(),
            advice: "name one in hab.toml, or with `hab-build mirror add`".to_owned(),
        }
    }
}

/// Whether an upstream lists other refs than before, because it changed meanwhile. It is asked only once more.
fn moved_on(git: &Git<'_>, wish: &SyncRequest<'_>, told: &mut Respondent<'_>) -> bool {
    if std::mem::replace(&mut told.again, true) {
        return false;
    }
    match listed(git, wish, told.remote) {
        Ok(Listed { refs, head }) if refs != told.answer.refs => {
            (told.answer.refs, told.head) = (refs, head);
            true
        }
        _ => false,
    }
}

/// Lists the refs of an upstream that are wanted.
fn listed(git: &Git<'_>, wish: &SyncRequest<'_>, remote: &Remote) -> Result<Listed, MirrorError> {
    git.ls_remote(remote, &|name| wish.refs.iter().any(|pattern| pattern.matches(name)))
}
