//! Names of accounts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of an account: 1 to 128 letters, digits and `. _ - @ +`, but not `anonymous` or `any`, which mean everybody
/// and every account in access rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Account(Arc<str>);

/// Why a text cannot name an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// It is empty, too long, or has another character.
    #[error("{0:?} is not an account's name: 1 to 128 letters, digits and . _ - @ +")]
    Name(String),
    /// It is a word of the access rules.
    #[error("no account can be named {0}: in access rules this word means everybody, or every account")]
    Reserved(String),
}

impl Account {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Account {
    type Err = AccountError;

    fn from_str(text: &str) -> Result<Self, AccountError> {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"._-@+".contains(&b);
        match text {
            "anonymous" | "any" => Err(AccountError::Reserved(text.to_owned())),
            _ if (1..=128).contains(&text.len()) && text.bytes().all(known) => Ok(Self(text.into())),
            _ => Err(AccountError::Name(text.chars().take(150).collect())),
        }
    }
}

impl TryFrom<String> for Account {
    type Error = AccountError;

    fn try_from(text: String) -> Result<Self, AccountError> {
        text.parse()
    }
}

impl From<Account> for String {
    fn from(account: Account) -> Self {
        account.0.as_ref().to_owned()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
