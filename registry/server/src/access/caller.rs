//! Who asks, and whether they may.

use std::time::Duration;

use super::Guard;
use super::account::Account;
use super::challenge::Problem;
use super::credentials::Credentials;
use super::issued::{Claims, Shown};
use super::limit::Who;
use super::passwords::Verdict;
use super::peer::Peer;
use super::rules::{Action, Rules};

/// Whoever a request comes from. Only [`Guard::identify`] finds out.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    name: Option<Account>,
    shown: Shown,
    /// Of an issued token, which bounds what its owner may do with it.
    claims: Option<Claims>,
}

/// Why nobody could be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Something else has to be shown.
    Show(Problem),
    /// It may be shown again after a while.
    Wait(Duration),
}

/// Whether a caller may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    /// Perhaps, if something else is shown.
    Show(Problem),
    /// Whatever else this account shows.
    No,
}

/// How long to wait when all that verifies passwords is taken.
const BUSY: Duration = Duration::from_secs(5);

impl Caller {
    /// Somebody who showed nothing.
    pub(crate) fn nobody() -> Self {
        Self { name: None, shown: Shown::Nothing, claims: None }
    }

    fn account(name: Account, shown: Shown) -> Self {
        Self { name: Some(name), shown, claims: None }
    }

    pub(crate) fn name(&self) -> Option<&Account> {
        self.name.as_ref()
    }

    pub(super) fn shown(&self) -> Shown {
        self.shown
    }

    pub(super) fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }

    /// Whether something was shown, if only a token that says that nothing was.
    pub(crate) fn showed_something(&self) -> bool {
        self.name.is_some() || self.claims.is_some()
    }

    pub(super) fn may(&self, rules: &Rules, repository: &str, action: Action) -> Answer {
        // First, because most pulls end here.
        if rules.allow(None, repository, action) {
            return Answer::Yes;
        }
        let covers = |claims: &Claims| claims.grants.iter().any(|grant| grant.covers(repository, action));
        match (&self.name, &self.claims) {
            (None, None) => Answer::Show(Problem::Nothing),
            (None, Some(_)) => Answer::Show(Problem::Scope),
            // What the operator wrote into a token is all that it is for, and needs no rule.
            (Some(_), Some(claims)) if self.shown == Shown::Operator => {
                if covers(claims) {
                    Answer::Yes
                } else {
                    Answer::No
                }
            }
            (Some(name), _) if !rules.allow(Some(name), repository, action) => Answer::No,
            (Some(_), Some(claims)) if !covers(claims) => Answer::Show(Problem::Scope),
            (Some(_), _) => Answer::Yes,
        }
    }
}

impl Guard {
    /// Finds out who asks. Only a password takes long.
    pub(crate) async fn identify(
        &self,
        shown: Credentials,
        peer: &Peer,
        now: i64,
    ) -> Result<Caller, Refused> {
        match shown {
            Credentials::Nothing => Ok(match &peer.certificate {
                Some(name) => Caller::account(name.clone(), Shown::Certificate),
                None => Caller::nobody(),
            }),
            Credentials::Garbled => Err(Refused::Show(Problem::Wrong)),
            Credentials::Bearer(token) => self.bearer(&token, now).ok_or(Refused::Show(Problem::Token)),
            Credentials::Basic { name, password } => self.basic(&name, &password, peer, now).await,
        }
    }

    fn bearer(&self, token: &str, now: i64) -> Option<Caller> {
        if !Claims::looks_like(token) {
            let name = self.tokens.as_ref()?.get().owner(token)?.clone();
            return Some(Caller::account(name, Shown::Token));
        }
        let claims = Claims::read(token, &self.key, now)?;
        let still = match (claims.shown, &claims.name) {
            (Shown::Nothing, name) => name.is_none(),
            (_, None) => false,
            (Shown::Password, Some(name)) => self.passwords.as_ref().is_some_and(|p| p.get().has(name)),
            (Shown::Token, Some(name)) => self.tokens.as_ref().is_some_and(|t| t.get().has(name)),
            (Shown::Certificate, Some(_)) => true,
            (Shown::Operator, Some(_)) => !self.revoked.get().has(claims.id),
        };
        still.then(|| Caller { name: claims.name.clone(), shown: claims.shown, claims: Some(claims) })
    }

    /// A token may stand where a password is asked for: that is all that some clients can send.
    async fn basic(&self, name: &str, password: &str, peer: &Peer, now: i64) -> Result<Caller, Refused> {
        let wrong = Refused::Show(Problem::Wrong);
        let name: Account = name.parse().map_err(|_| wrong)?;
        if let Some(caller) = self.bearer(password, now) {
            return if caller.name() == Some(&name) { Ok(caller) } else { Err(wrong) };
        }
        let Some(passwords) = self.passwords.as_ref().filter(|_| !Claims::looks_like(password)) else {
            return Err(wrong);
        };
        let try_once = || self.guesses.take(&Who::at(peer.address));
        match passwords.get().verify(&self.turns, &name, password, try_once).await {
            Verdict::Right => Ok(Caller::account(name, Shown::Password)),
            Verdict::Wrong => {
                tracing::info!(account = %name, address = %peer.address, "a wrong password");
                Err(wrong)
            }
            Verdict::Busy => Err(Refused::Wait(BUSY)),
            Verdict::TooOften(wait) => Err(Refused::Wait(wait)),
        }
    }
}
