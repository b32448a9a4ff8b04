//! Tokens that the operator issues for a longer time, without a server.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::account::Account;
use super::error::AccessError;
use super::issued::{Claims, Shown};
use super::key::{Key, revoked_in};
use super::rules::Grant;
use super::tokens::{Revoked, id_of};
use hab_clock::now;

/// A token to be issued.
#[derive(Clone, Debug)]
pub struct Issue {
    /// The account that it is for.
    pub name: Account,
    /// Everything that the token allows. No access rule has to allow it, and no rule can add to it.
    pub grants: Vec<Grant>,
    /// Its lifetime, in seconds.
    pub seconds: i64,
}

/// A token that was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The token: a password for its name, or a bearer token.
    pub token: String,
    /// The id to revoke it by.
    pub id: String,
    /// When it expires, in unix seconds.
    pub expires: i64,
}

/// Issues a token, signed with the data folder's key. Makes the key if there is none yet.
pub fn issue(data: &Path, what: Issue) -> Result<Issued, AccessError> {
    let key = Key::open(data)?;
    let (id, issued) = (Claims::fresh_id()?, now());
    let expires = issued.saturating_add(what.seconds);
    let claims = Claims {
        name: Some(what.name),
        shown: Shown::Operator,
        id,
        issued,
        expires,
        grants: what.grants,
        catalog: false,
        version: None,
        certificate: None,
    };
    Ok(Issued { token: claims.sign(&key), id: format!("{id:016x}"), expires })
}

/// Revokes a token by its id. A running server notices within seconds.
pub fn revoke(data: &Path, id: &str) -> Result<(), AccessError> {
    let number = id_of(id).ok_or_else(|| AccessError::Id(id.chars().take(40).collect()))?;
    let path = revoked_in(data);
    if Revoked::load(&path)?.has(number) {
        return Ok(());
    }
    let append = || {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o644).open(&path)?;
        file.write_all(format!("{number:016x}\n").as_bytes())?;
        file.sync_all()
    };
    append().map_err(|source| AccessError::Write { path: path.clone(), source })
}
