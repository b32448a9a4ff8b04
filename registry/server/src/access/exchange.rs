//! Who shows an account gets a token for what they ask and may.

use hab_store::Pattern;

use super::caller::{Answer, Caller, Proof, Refused};
use super::challenge;
use super::credentials::Credentials;
use super::error::AccessError;
use super::guard::Guard;
use super::issued::{Claims, Shown};
use super::peer::{Client, Peer};
use super::permit::Gate;
use super::refusal::Refusal;
use super::rules::{Action, Grant};
use super::scope::{MOST, Scope, names_catalog};
use crate::clock::now;

/// Seconds that a token is worth something. Clients take 60 where they are not told.
const LIFE: i64 = 300;

/// What is asked for, and by whom.
pub(crate) struct Asked {
    shown: Credentials,
    scopes: Vec<Scope>,
    /// The list of repositories, too.
    catalog: bool,
}

impl Asked {
    /// Of `name=value` pairs as a query has them, or a form.
    pub(crate) fn of(shown: Credentials, query: &[u8]) -> Self {
        let (mut scopes, mut catalog) = (Vec::new(), false);
        for (name, value) in form_urlencoded::parse(query) {
            if name == "scope" {
                scopes.extend(Scope::all_of(&value));
                catalog |= names_catalog(&value);
            }
        }
        scopes.truncate(MOST);
        Self { shown, scopes, catalog }
    }
}

/// A token that was made for somebody who asked.
pub(crate) struct Granted {
    pub(crate) token: String,
    /// Unix seconds.
    pub(crate) issued: i64,
    /// Unix seconds; from then on it is worth nothing.
    pub(crate) expires: i64,
}

/// Who gives tokens.
pub(crate) struct Issuer<'a> {
    gate: &'a Gate,
    guard: &'a Guard,
}

impl Gate {
    /// Who gives tokens, where there are accounts.
    pub(crate) fn issuer(&self) -> Option<Issuer<'_>> {
        self.guard.as_deref().map(|guard| Issuer { gate: self, guard })
    }
}

impl Issuer<'_> {
    /// A token for what is asked and may. Who asks is said in `client`, also where they get none.
    pub(crate) async fn exchange(
        &self,
        asked: Asked,
        peer: &Peer,
        client: &mut Client,
    ) -> Result<Granted, Refusal> {
        let found = self.gate.ask(self.guard, asked.shown, peer).await;
        client.name = found.as_ref().ok().and_then(|caller| caller.name().cloned());
        self.gate.count(&found, peer.address)?;
        let caller = found.map_err(|refused| match refused {
            Refused::Show(problem) => Refusal::Unauthorized { challenge: challenge::basic(), problem },
            Refused::Wait(wait) => Refusal::TooMany { wait },
        })?;
        let claims = self.guard.claims(&caller, &asked.scopes, asked.catalog, now())?;
        let token = claims.sign(&self.guard.key);
        Ok(Granted { token, issued: claims.issued, expires: claims.expires })
    }
}

impl Guard {
    fn claims(
        &self,
        caller: &Caller,
        scopes: &[Scope],
        catalog: bool,
        now: i64,
    ) -> Result<Claims, AccessError> {
        let held = caller.claims();
        // Who shows an issued token gets no more and no longer from it.
        let Proof { version, certificate, until } = caller.proof().clone();
        let most = until.map_or(now + LIFE, |until| until.min(now + LIFE));
        let expires = held.map_or(most, |held| held.expires.min(most));
        let id = match held {
            Some(held) => held.id,
            None => Claims::fresh_id()?,
        };
        let grants = match held {
            Some(held) if caller.shown() == Shown::Operator => held.grants.clone(),
            _ => scopes.iter().filter_map(|scope| self.grant(caller, scope)).collect(),
        };
        let catalog = catalog && held.is_none_or(|held| held.catalog);
        let (name, shown) = (caller.name().cloned(), caller.shown());
        Ok(Claims { name, shown, id, issued: now, expires, grants, catalog, version, certificate })
    }

    /// What of a scope the caller may; what they may not is left out, and told when they try.
    fn grant(&self, caller: &Caller, scope: &Scope) -> Option<Grant> {
        let name = scope.repository.as_str();
        let may = |action: &Action| caller.may(&self.rules, name, *action) == Answer::Yes;
        let actions: Vec<Action> = scope.actions.iter().copied().filter(may).collect();
        // A repository's name has nothing in it that a pattern could not.
        let repository: Pattern = name.parse().ok()?;
        (!actions.is_empty()).then_some(Grant { repository, actions })
    }
}
