//! The only place that admits a request to a repository.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, Method};
use hab_oci::RepositoryName;

use super::caller::{Caller, Permission, Refused};
use super::certificate::Authorities;
use super::challenge::{self, Problem};
use super::credentials::Credentials;
use super::guard::Guard;
use super::limit::{Limiter, Who};
use super::peer::Peer;
use super::refusal::Refusal;
use super::rules::Action;
use super::scope::{CATALOG, Scope};
use hab_clock::now;

/// What is allowed at all; a [`Guard`] says to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// Nobody may push or delete.
    #[default]
    ReadOnly,
    /// Without a guard, everybody who can reach the listener may push and delete.
    ReadWrite,
}

impl Access {
    /// Whether a request of this method may be answered at all.
    pub(crate) fn permits(self, method: &Method) -> bool {
        match self {
            Self::ReadWrite => true,
            Self::ReadOnly => method.is_safe(),
        }
    }
}

/// The checks that a request must pass before it reaches a repository.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) access: Access,
    /// Without a guard, everybody may do what `access` allows.
    pub(crate) guard: Option<Arc<Guard>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    /// The authorities for certificates, if clients may have some.
    pub(crate) authorities: Option<Arc<dyn Authorities>>,
}

/// The proof that a caller may do what they ask for in this repository. Only [`Gate::authorise`] makes one.
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
        self.guard.is_none_or(|guard| {
            self.caller.may(&guard.rules, other.as_str(), Action::Pull) == Permission::Yes
        })
    }
}

/// What a caller may see of the list of repositories. Only [`Gate::view`] makes one.
pub(crate) struct View<'a> {
    guard: Option<&'a Guard>,
    caller: &'a Caller,
}

impl View<'_> {
    /// Whether the caller's list has a repository.
    pub(crate) fn shows(&self, repository: &RepositoryName) -> bool {
        self.guard.is_none_or(|guard| self.caller.may_see(&guard.rules, repository.as_str()))
    }
}

/// The parts of a request that show how it came here.
pub(crate) struct RequestContext<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) peer: &'a Peer,
}

impl Gate {
    /// A gate without accounts.
    pub(crate) fn new(access: Access) -> Self {
        Self { access, guard: None, limiter: None, authorities: None }
    }

    /// Identifies the caller, and counts the request.
    pub(crate) async fn identify(&self, scene: &RequestContext<'_>) -> Result<Caller, Refusal> {
        let found = match &self.guard {
            Some(guard) => self.ask(guard, Credentials::of(scene.headers), scene.peer).await,
            None => Ok(Caller::nobody()),
        };
        self.count(&found, scene.peer.address)?;
        found.map_err(|refused| match refused {
            Refused::Show(problem) => self.challenged(scene, None, problem),
            Refused::Wait(wait) => Refusal::TooMany { wait },
        })
    }

    /// Lets a guard identify the caller.
    pub(super) async fn ask(
        &self,
        guard: &Guard,
        shown: Credentials,
        peer: &Peer,
    ) -> Result<Caller, Refused> {
        guard.identify(shown, peer, self.authorities.as_deref(), now()).await
    }

    /// Counts a request for the account that was identified, or else for the address.
    pub(super) fn count(&self, found: &Result<Caller, Refused>, address: IpAddr) -> Result<(), Refusal> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let name = found.as_ref().ok().and_then(Caller::name);
        let who = name.map_or_else(|| Who::at(address), Who::Account);
        limiter.take(&who).map_err(|wait| Refusal::TooMany { wait })
    }

    /// Checks a request to the base endpoint, by which clients find out how to log in: a client without credentials is
    /// challenged, although it may pull.
    pub(crate) fn greet(&self, caller: &Caller, scene: &RequestContext<'_>) -> Result<(), Refusal> {
        if self.guard.is_none() || caller.showed_something() {
            return Ok(());
        }
        Err(self.challenged(scene, None, Problem::Nothing))
    }

    /// Whether the caller may do this in a repository. The repository need not exist, and the answer does not reveal
    /// whether it does.
    pub(crate) fn authorise<'a>(
        &'a self,
        caller: &'a Caller,
        repository: &'a RepositoryName,
        action: Action,
        scene: &RequestContext<'_>,
    ) -> Result<Permit<'a>, Refusal> {
        let answer = match &self.guard {
            Some(guard) => caller.may(&guard.rules, repository.as_str(), action),
            None => Permission::Yes,
        };
        match answer {
            Permission::Yes => Ok(Permit { repository, guard: self.guard.as_deref(), caller }),
            Permission::Show(problem) => {
                Err(self.challenged(scene, Some(&Scope::said(repository, action)), problem))
            }
            Permission::No => Err(Refusal::Denied { repository: repository.clone(), action }),
        }
    }

    /// Whether the caller may ask for the list of repositories.
    pub(crate) fn view<'a>(
        &'a self,
        caller: &'a Caller,
        scene: &RequestContext<'_>,
    ) -> Result<View<'a>, Refusal> {
        let guard = self.guard.as_deref();
        match guard.map_or(Permission::Yes, |_| caller.may_list()) {
            Permission::Show(problem) => Err(self.challenged(scene, Some(CATALOG), problem)),
            Permission::Yes | Permission::No => Ok(View { guard, caller }),
        }
    }

    fn challenged(&self, scene: &RequestContext<'_>, scope: Option<&str>, problem: Problem) -> Refusal {
        let url = self.guard.as_ref().and_then(|guard| guard.url.as_deref());
        let challenge = challenge::bearer(url, scene.headers, scene.peer, scope, problem);
        Refusal::Unauthorized { challenge, problem }
    }
}
