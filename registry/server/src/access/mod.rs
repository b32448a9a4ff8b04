//! Who may do what.
//!
//! A request shows something (`credentials`), or its connection does (`peer`); [`Guard::identify`] makes a [`Caller`] of it,
//! by a password (`htpasswd`, `passwords`), a token of the operator (`tokens`) or one that was issued here (`issued`, `key`,
//! `exchange`). Before anything of a repository is looked at, [`Registry::authorise`] holds the caller against the `rules` and
//! gives a [`Permit`], which the endpoints want to see. Files are read again when they change (`watched`).

mod account;
mod caller;
mod certificate;
mod challenge;
mod credentials;
mod error;
mod exchange;
mod htpasswd;
mod issued;
mod key;
mod limit;
mod operator;
mod passwords;
mod peer;
mod permit;
mod rules;
mod scope;
mod tokens;
mod version;
mod watched;

use std::fmt;
use std::path::PathBuf;

pub use account::{Account, AccountError};
pub use error::{AccessError, LineError};
pub use limit::Rate;
pub use operator::{Issue, Issued, issue, revoke};
pub use rules::{AccessRule, Action, Grant, Who};
pub use tokens::NewToken;

pub(crate) use certificate::{Certificate, CertificateId};
pub(crate) use challenge::{Problem, basic, checked as plain_url};
pub(crate) use error::read;
pub(crate) use exchange::{PATH as TOKEN_PATH, exchange};
pub(crate) use limit::Limiter;
pub(crate) use peer::{Client, Peer};
pub(crate) use permit::{Permit, Scene, View};
pub(crate) use watched::Watched;

use hab_turns::Turns;
use htpasswd::Htpasswd;
use key::Key;
use passwords::Passwords;
use rules::Rules;
use tokens::{Revoked, Tokens};

/// How accounts are known and what they may do. Plain data.
#[derive(Clone, Debug, Default)]
pub struct AccessConfig {
    /// The data folder, where the key of issued tokens is kept.
    pub data: PathBuf,
    /// The file of passwords: `name:hash`, bcrypt or argon2.
    pub htpasswd: Option<PathBuf>,
    /// The file of tokens: a name and the token's sha256.
    pub tokens: Option<PathBuf>,
    /// Who may do what. Without any, everybody may pull and every account may do everything.
    pub rules: Vec<AccessRule>,
    /// The address that clients are told to get tokens from; without one, the one that they came by.
    pub url: Option<String>,
}

/// Password verifications that one address may ask for: guesses. A password that is remembered is none.
const GUESSES: Rate = Rate { requests: 1, burst: 60 };

/// Everything that decides about requests.
pub struct Guard {
    pub(crate) rules: Rules,
    passwords: Option<Watched<Passwords>>,
    tokens: Option<Watched<Tokens>>,
    revoked: Watched<Revoked>,
    key: Key,
    url: Option<String>,
    turns: Turns,
    guesses: Limiter,
}

impl Guard {
    /// Reads the files and makes the key if there is none yet.
    pub fn open(config: AccessConfig) -> Result<Self, AccessError> {
        let AccessConfig { data, htpasswd, tokens, rules, url } = config;
        let url = url.as_deref().map(challenge::checked).transpose()?;
        let key = Key::open(&data)?;
        let passwords = htpasswd.map(|path| {
            let file = path.clone();
            Watched::open(vec![path], move || Passwords::new(Htpasswd::load(&file)?))
        });
        let tokens = tokens.map(|path| {
            let file = path.clone();
            Watched::open(vec![path], move || Tokens::load(&file))
        });
        let file = key::revoked_in(&data);
        Ok(Self {
            rules: Rules::new(rules)?,
            passwords: passwords.transpose()?,
            tokens: tokens.transpose()?,
            revoked: Watched::open(vec![file.clone()], move || Revoked::load(&file))?,
            key,
            url,
            turns: passwords::turns(),
            guesses: Limiter::new(GUESSES)?,
        })
    }

    /// Reads files again that changed, or all of them; takes a while.
    pub(crate) fn refresh(&self, always: bool) {
        if let Some(passwords) = &self.passwords {
            passwords.refresh(always);
        }
        if let Some(tokens) = &self.tokens {
            tokens.refresh(always);
        }
        self.revoked.refresh(always);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Everything else is secret, or made from secrets.
        f.debug_struct("Guard").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// What only its owner reads, for tests.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn write_secret(path: &std::path::Path, bytes: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
