//! The caller of a request, and what they may do.

use std::time::Duration;

use super::account::Account;
use super::certificate::{Authorities, Certificate, CertificateId};
use super::challenge::Problem;
use super::credentials::Credentials;
use super::guard::Guard;
use super::issued::{Claims, Shown};
use super::limit::Who;
use super::passwords::Verdict;
use super::peer::Peer;
use super::rules::{Action, Rules};
use super::tokens::Tokens;
use super::version::Version;
use super::watched::Reloading;

/// The caller of a request. Only [`Guard::identify`] finds out who it is.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    name: Option<Account>,
    shown: Shown,
    /// The claims of an issued token, which limit what the caller may do with it.
    claims: Option<Claims>,
    /// What a token that is made for this caller must carry.
    proof: Proof,
}

/// What a token carries about the credential that it was made for. If one of these changes, the token is invalid.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    pub(super) version: Option<Version>,
    pub(super) certificate: Option<CertificateId>,
    /// Unix seconds: the credential is invalid from then on.
    pub(super) until: Option<i64>,
}

/// Why the caller could not be identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The client must show other credentials.
    Show(Problem),
    /// The client may try again after this time.
    Wait(Duration),
}

/// Whether a caller may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    Yes,
    /// Not with these credentials, but perhaps with others.
    Show(Problem),
    /// Not with any credentials of this account.
    No,
}

/// How long a client must wait if all turns for verifying passwords are taken.
const BUSY: Duration = Duration::from_secs(5);

impl Caller {
    /// A caller without credentials.
    pub(crate) fn nobody() -> Self {
        Self { name: None, shown: Shown::Nothing, claims: None, proof: Proof::default() }
    }

    fn account(name: Account, shown: Shown, proof: Proof) -> Self {
        Self { name: Some(name), shown, claims: None, proof }
    }

    pub(super) fn proof(&self) -> &Proof {
        &self.proof
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

    /// Whether the caller showed something, if only a token without an account.
    pub(crate) fn showed_something(&self) -> bool {
        self.name.is_some() || self.claims.is_some()
    }

    pub(super) fn may(&self, rules: &Rules, repository: &str, action: Action) -> Permission {
        // Checked first, because most pulls end here.
        if rules.allow(None, repository, action) {
            return Permission::Yes;
        }
        let covers = |claims: &Claims| claims.grants.iter().any(|grant| grant.covers(repository, action));
        match (&self.name, &self.claims) {
            (None, None) => Permission::Show(Problem::Nothing),
            (None, Some(_)) => Permission::Show(Problem::Scope),
            // A token of the operator allows what is written in it and nothing else, and needs no rule.
            (Some(_), Some(claims)) if self.shown == Shown::Operator => {
                if covers(claims) {
                    Permission::Yes
                } else {
                    Permission::No
                }
            }
            (Some(name), _) if !rules.allow(Some(name), repository, action) => Permission::No,
            (Some(_), Some(claims)) if !covers(claims) => Permission::Show(Problem::Scope),
            (Some(_), _) => Permission::Yes,
        }
    }

    /// Whether the caller may ask for the list of repositories at all; [`Self::may_see`] says what is in it.
    pub(super) fn may_list(&self) -> Permission {
        match &self.claims {
            // A challenge, as at the base endpoint: a caller who has an account and did not show it would see too
            // little.
            None if self.name.is_none() => Permission::Show(Problem::Nothing),
            Some(claims) if self.shown != Shown::Operator && !claims.catalog => {
                Permission::Show(Problem::Scope)
            }
            _ => Permission::Yes,
        }
    }

    /// Whether a repository is in the list: it is if the account may pull it, with whichever token.
    pub(super) fn may_see(&self, rules: &Rules, repository: &str) -> bool {
        match (&self.name, &self.claims) {
            (Some(_), Some(_)) if self.shown == Shown::Operator => {
                self.may(rules, repository, Action::Pull) == Permission::Yes
            }
            (name, _) => rules.allow(name.as_ref(), repository, Action::Pull),
        }
    }
}

impl Guard {
    /// Identifies the caller; `tls` says which certificates are valid. Only a password takes long.
    pub(crate) async fn identify(
        &self,
        shown: Credentials,
        peer: &Peer,
        tls: Option<&dyn Authorities>,
        now: i64,
    ) -> Result<Caller, Refused> {
        match shown {
            Credentials::Nothing => Ok(match &peer.certificate {
                Some(certificate) => self.certified(certificate, tls),
                None => Caller::nobody(),
            }),
            Credentials::Garbled => Err(Refused::Show(Problem::Wrong)),
            Credentials::Bearer(token) => self.bearer(&token, tls, now).ok_or(Refused::Show(Problem::Token)),
            Credentials::Basic { name, password } => self.basic(&name, &password, peer, tls, now).await,
        }
    }

    /// The caller of a certificate. The connection has checked for this very request that the certificate is valid.
    fn certified(&self, certificate: &Certificate, tls: Option<&dyn Authorities>) -> Caller {
        let Certificate { account, id, until } = certificate;
        let version =
            tls.and_then(Authorities::authorities).map(|all| self.version_of_authorities(account, &all));
        let proof = Proof { version, certificate: Some(*id), until: Some(*until) };
        Caller::account(account.clone(), Shown::Certificate, proof)
    }

    fn version_of_authorities(&self, name: &Account, authorities: &[u8; 32]) -> Version {
        Version::of(&self.key, "certificate", name, authorities)
    }

    fn bearer(&self, token: &str, tls: Option<&dyn Authorities>, now: i64) -> Option<Caller> {
        if !Claims::looks_like(token) {
            let name = self.tokens.as_ref()?.get().owner(token)?.clone();
            let version = Some(Tokens::version(&self.key, &name, token));
            return Some(Caller::account(name, Shown::Token, Proof { version, ..Proof::default() }));
        }
        let claims = Claims::read(token, &self.key, now)?;
        let proof = Proof { version: claims.version.clone(), certificate: claims.certificate, until: None };
        let still = match (claims.shown, &claims.name) {
            (Shown::Nothing, name) => name.is_none(),
            (_, None) => false,
            (Shown::Operator, Some(_)) => !self.revoked.get().has(claims.id),
            (shown, Some(name)) => self.is_still_shown(shown, name, &proof, tls),
        };
        still.then(|| Caller { name: claims.name.clone(), shown: claims.shown, claims: Some(claims), proof })
    }

    /// Whether the credential that a token was issued for is still valid.
    fn is_still_shown(
        &self,
        shown: Shown,
        name: &Account,
        proof: &Proof,
        tls: Option<&dyn Authorities>,
    ) -> bool {
        let Some(version) = &proof.version else { return false };
        match shown {
            Shown::Password => {
                let passwords = self.passwords.as_ref().map(Reloading::get);
                passwords.and_then(|all| all.version(&self.key, name)).as_ref() == Some(version)
            }
            Shown::Token => {
                self.tokens.as_ref().is_some_and(|tokens| tokens.get().has(&self.key, name, version))
            }
            Shown::Certificate => tls.zip(proof.certificate).is_some_and(|(tls, id)| {
                let authorities = tls.authorities();
                !tls.is_revoked(&id)
                    && authorities.is_some_and(|all| self.version_of_authorities(name, &all) == *version)
            }),
            Shown::Nothing | Shown::Operator => false,
        }
    }

    /// Identifies a name and password. A token may stand in the password's place, because some clients can send nothing
    /// else.
    async fn basic(
        &self,
        name: &str,
        password: &str,
        peer: &Peer,
        tls: Option<&dyn Authorities>,
        now: i64,
    ) -> Result<Caller, Refused> {
        let wrong = Refused::Show(Problem::Wrong);
        let name: Account = name.parse().map_err(|_| wrong)?;
        if let Some(caller) = self.bearer(password, tls, now) {
            return if caller.name() == Some(&name) { Ok(caller) } else { Err(wrong) };
        }
        let Some(passwords) = self.passwords.as_ref().filter(|_| !Claims::looks_like(password)) else {
            return Err(wrong);
        };
        let try_once = || self.guesses.take(&Who::at(peer.address));
        // Both steps use the same reading of the file, so that a token is never for a later password than the verified
        // one.
        let passwords = passwords.get();
        let turn = (&self.turns, hab_turns::Client::of(peer.address));
        match passwords.verify(turn, &name, password, try_once).await {
            Verdict::Right => {
                let version = passwords.version(&self.key, &name);
                Ok(Caller::account(name, Shown::Password, Proof { version, ..Proof::default() }))
            }
            Verdict::Wrong => {
                tracing::info!(account = %name, address = %peer.address, "a wrong password");
                Err(wrong)
            }
            Verdict::Busy => Err(Refused::Wait(BUSY)),
            Verdict::TooOften(wait) => Err(Refused::Wait(wait)),
        }
    }
}
