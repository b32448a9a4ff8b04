//! The one place where a request is let through to a repository.

use axum::http::HeaderMap;
use hab_oci::RepositoryName;

use super::Guard;
use super::caller::{Answer, Caller, Refused};
use super::challenge::{self, Problem};
use super::credentials::Credentials;
use super::limit::Who;
use super::peer::Peer;
use super::rules::Action;
use super::scope::{CATALOG, Scope};
use crate::Registry;
use crate::clock::now;
use crate::error::Error;

/// That a caller may do what they ask for in this repository. Only [`Registry::authorise`] makes one.
pub(crate) struct Permit<'a> {
    repository: &'a RepositoryName,
    guard: Option<&'a Guard>,
    caller: &'a Caller,
}

impl Permit<'_> {
    /// The repository, by its name here.
    pub(crate) fn repository(&self) -> &RepositoryName {
        self.repository
    }

    /// Whether the same caller may read another repository, too.
    pub(crate) fn may_pull(&self, other: &RepositoryName) -> bool {
        self.guard
            .is_none_or(|guard| self.caller.may(&guard.rules, other.as_str(), Action::Pull) == Answer::Yes)
    }
}

/// What a caller may see of the list of repositories. Only [`Registry::view`] makes one.
pub(crate) struct View<'a> {
    guard: Option<&'a Guard>,
    caller: &'a Caller,
}

impl View<'_> {
    /// Whether a repository is in their list.
    pub(crate) fn shows(&self, repository: &RepositoryName) -> bool {
        self.guard.is_none_or(|guard| self.caller.may_see(&guard.rules, repository.as_str()))
    }
}

/// What of a request says where it came by.
pub(crate) struct Scene<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) peer: &'a Peer,
}

impl Registry {
    /// Finds out who asks, and counts them.
    pub(crate) async fn identify(&self, scene: &Scene<'_>) -> Result<Caller, Error> {
        let found = match &self.guard {
            Some(guard) => {
                guard.identify(Credentials::of(scene.headers), scene.peer, self.tls.as_deref(), now()).await
            }
            None => Ok(Caller::nobody()),
        };
        if let Some(limiter) = &self.limiter {
            let who = match found.as_ref().ok().and_then(Caller::name) {
                Some(name) => Who::Account(name),
                None => Who::at(scene.peer.address),
            };
            limiter.take(&who).map_err(|wait| Error::TooMany { wait })?;
        }
        found.map_err(|refused| match refused {
            Refused::Show(problem) => self.challenged(scene, None, problem),
            Refused::Wait(wait) => Error::TooMany { wait },
        })
    }

    /// The base endpoint, by which clients find out how to log in: whoever showed nothing is told, although they may pull.
    pub(crate) fn greet(&self, caller: &Caller, scene: &Scene<'_>) -> Result<(), Error> {
        if self.guard.is_none() || caller.showed_something() {
            return Ok(());
        }
        Err(self.challenged(scene, None, Problem::Nothing))
    }

    /// Whether the caller may do this in a repository, which need not be there: the answer never tells.
    pub(crate) fn authorise<'a>(
        &'a self,
        caller: &'a Caller,
        repository: &'a RepositoryName,
        action: Action,
        scene: &Scene<'_>,
    ) -> Result<Permit<'a>, Error> {
        let answer = match &self.guard {
            Some(guard) => caller.may(&guard.rules, repository.as_str(), action),
            None => Answer::Yes,
        };
        match answer {
            Answer::Yes => Ok(Permit { repository, guard: self.guard.as_deref(), caller }),
            Answer::Show(problem) => {
                Err(self.challenged(scene, Some(&Scope::said(repository, action)), problem))
            }
            Answer::No => Err(Error::Denied { repository: repository.clone(), action }),
        }
    }

    /// Whether the caller may ask for the list of repositories.
    pub(crate) fn view<'a>(&'a self, caller: &'a Caller, scene: &Scene<'_>) -> Result<View<'a>, Error> {
        let guard = self.guard.as_deref();
        match guard.map_or(Answer::Yes, |_| caller.may_list()) {
            Answer::Show(problem) => Err(self.challenged(scene, Some(CATALOG), problem)),
            Answer::Yes | Answer::No => Ok(View { guard, caller }),
        }
    }

    fn challenged(&self, scene: &Scene<'_>, scope: Option<&str>, problem: Problem) -> Error {
        let url = self.guard.as_ref().and_then(|guard| guard.url.as_deref());
        let challenge = challenge::bearer(url, scene.headers, scene.peer, scope, problem);
        Error::Unauthorized { challenge, problem }
    }
}
