//! Exchanges a client's credentials for a token that allows what the client asks for and may do.

use hab_store::Pattern;

use super::caller::{Caller, Permission, Proof, Refused};
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
use hab_clock::now;

/// The lifetime of a token, in seconds. Clients assume 60 if the answer does not say.
const LIFE: i64 = 300;

/// A request for a token: the credentials, and the scopes.
pub(crate) struct TokenRequest {
    shown: Credentials,
    scopes: Vec<Scope>,
    /// The list of repositories is asked for, too.
    catalog: bool,
}

impl TokenRequest {
    /// Reads the `name=value` pairs of a query or of a form.
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

/// A token that was made on request.
pub(crate) struct Granted {
    pub(crate) token: String,
    /// Unix seconds.
    pub(crate) issued: i64,
    /// Unix seconds; the token is invalid from then on.
    pub(crate) expires: i64,
}

/// Issues tokens.
pub(crate) struct Issuer<'a> {
    gate: &'a Gate,
    guard: &'a Guard,
}

impl Gate {
    /// The issuer of tokens, if there are accounts.
    pub(crate) fn issuer(&self) -> Option<Issuer<'_>> {
        self.guard.as_deref().map(|guard| Issuer { gate: self, guard })
    }
}

impl Issuer<'_> {
    /// Makes a token for what the client asks for and may do. Writes the caller's name to `client`, also if there is no
    /// token.
    pub(crate) async fn exchange(
        &self,
        asked: TokenRequest,
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
        // A token that was got with an issued token allows no more than that one, and lasts no longer.
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

    /// The actions of a scope that the caller may do. The others are left out; the client learns that when it tries
    /// them.
    fn grant(&self, caller: &Caller, scope: &Scope) -> Option<Grant> {
        let name = scope.repository.as_str();
        let may = |action: &Action| caller.may(&self.rules, name, *action) == Permission::Yes;
        let actions: Vec<Action> = scope.actions.iter().copied().filter(may).collect();
        // Every repository's name is a valid pattern.
        let repository: Pattern = name.parse().ok()?;
        (!actions.is_empty()).then_some(Grant { repository, actions })
    }
}
