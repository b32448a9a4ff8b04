//! Access control: who may do what.
//!
//! A request shows credentials (`credentials`), or its connection does (`peer`). [`Guard::identify`] makes a [`Caller`]
//! of them: by a password (`htpasswd`, `passwords`), a token of the operator (`tokens`) or a token that was issued here
//! (`issued`, `key`, `exchange`). Before a repository is looked at, [`Gate::authorise`] checks the caller against the
//! `rules`. It returns a [`Permit`], which every endpoint demands, or a [`Refusal`]. Files are read again when they
//! change (`watched`).

mod account;
mod caller;
mod certificate;
mod challenge;
mod credentials;
mod error;
mod exchange;
mod guard;
mod htpasswd;
mod issued;
mod key;
mod limit;
mod operator;
mod passwords;
mod peer;
mod permit;
mod refusal;
mod rules;
mod scope;
mod tokens;
mod version;
mod watched;

pub use account::{Account, AccountError};
pub use error::{AccessError, LineError};
pub use guard::{AccessConfig, Guard};
pub use limit::Rate;
pub use operator::{Issue, Issued, issue, revoke};
pub use permit::Access;
pub use rules::{AccessRule, Action, Grant, Who};
pub use tokens::NewToken;

pub(crate) use certificate::{Authorities, Certificate, CertificateId};
pub(crate) use challenge::{Problem, TOKEN_PATH, basic, checked as plain_url};
pub(crate) use credentials::Credentials;
pub(crate) use error::read;
pub(crate) use exchange::{Granted, TokenRequest};
pub(crate) use limit::Limiter;
pub(crate) use peer::{Client, Peer};
pub(crate) use permit::{Gate, Permit, RequestContext, View};
pub(crate) use refusal::{Refusal, seconds};
pub(crate) use watched::Reloading;

/// Writes a file that only its owner can read, for tests.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn write_secret(path: &std::path::Path, bytes: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
