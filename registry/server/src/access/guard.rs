//! Decides about requests by accounts, their tokens and access rules. All of them are read from files that may change.

use std::fmt;
use std::path::PathBuf;

use hab_turns::Turns;

use super::challenge;
use super::error::AccessError;
use super::htpasswd::Htpasswd;
use super::key::{self, Key};
use super::limit::{Limiter, Rate};
use super::passwords::{self, Passwords};
use super::rules::{AccessRule, Rules};
use super::tokens::{Revoked, Tokens};
use super::watched::Reloading;

/// How accounts are identified, and what they may do. Plain data.
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
    /// The address where clients get tokens; without one, the address that the request came to.
    pub url: Option<String>,
}

/// How many password verifications one address may ask for, to limit guesses. A remembered password needs none.
const GUESSES: Rate = Rate { requests: 1, burst: 60 };

/// Identifies callers, and has the rules for what they may do.
pub struct Guard {
    pub(super) rules: Rules,
    pub(super) passwords: Option<Reloading<Passwords>>,
    pub(super) tokens: Option<Reloading<Tokens>>,
    pub(super) revoked: Reloading<Revoked>,
    pub(super) key: Key,
    pub(super) url: Option<String>,
    pub(super) turns: Turns,
    pub(super) guesses: Limiter,
}

impl Guard {
    /// Reads the files and makes the key if there is none yet.
    pub fn open(config: AccessConfig) -> Result<Self, AccessError> {
        let AccessConfig { data, htpasswd, tokens, rules, url } = config;
        let url = url.as_deref().map(challenge::checked).transpose()?;
        let key = Key::open(&data)?;
        let passwords = htpasswd.map(|path| {
            let file = path.clone();
            Reloading::open(vec![path], move || Passwords::new(Htpasswd::load(&file)?))
        });
        let tokens = tokens.map(|path| {
            let file = path.clone();
            Reloading::open(vec![path], move || Tokens::load(&file))
        });
        let file = key::revoked_in(&data);
        Ok(Self {
            rules: Rules::new(rules)?,
            passwords: passwords.transpose()?,
            tokens: tokens.transpose()?,
            revoked: Reloading::open(vec![file.clone()], move || Revoked::load(&file))?,
            key,
            url,
            turns: passwords::turns(),
            guesses: Limiter::new(GUESSES)?,
        })
    }

    /// Reads changed files again, or all files if `always` is set; takes a while.
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
