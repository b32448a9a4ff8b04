//! Why the files and the settings of access control cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use hab_trusted_file::Readers;

use super::account::AccountError;

/// A file or a setting cannot be used. Each is one sentence: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file is not there, may not be read, or must not be believed: others could have written it, or read what is
    /// secret.
    #[error(transparent)]
    File(#[from] hab_trusted_file::Error),
    /// A file could not be made.
    #[error("{path} could not be written", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A line of a file.
    #[error("{path}, line {line}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        problem: LineError,
    },
    /// A key that is none.
    #[error("{path} is not a key of 64 hexadecimal digits: remove it, and a new one is made", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// An id of an issued token.
    #[error("{0:?} is not a token's id: 16 hexadecimal digits, as `registry token issue` says them")]
    Id(String),
    /// A rule that says nothing.
    #[error(
        "access rule {0} has an empty list: who, repositories and actions each name at least one; without repositories, all"
    )]
    Rule(usize),
    /// The address that clients are told.
    #[error("url {0:?} is not an address such as https://farm.example:5000")]
    Url(String),
    /// A rate that lets nobody through.
    #[error("a limit needs at least one request a second and a burst of at least one")]
    Limit,
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] io::Error),
    /// A file of certificates or keys.
    #[error("{path} does not read as PEM", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file without what it should hold.
    #[error("{path} holds no {what} in PEM", path = path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// Certificates that TLS cannot use.
    #[error("{path} cannot be used for TLS", path = path.display())]
    Tls {
        /// The file of certificates.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A revocation list that is none.
    #[error("{path} does not read as a certificate revocation list", path = path.display())]
    Revocations {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: openssl::error::ErrorStack,
    },
    /// Certificates of authorities that cannot be used.
    #[error("{path} cannot be used to know clients by", path = path.display())]
    Authority {
        /// The file of certificates.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Of a file of passwords.
    #[error("it is not name:hash")]
    NoColon,
    /// Of a file of tokens.
    #[error("it is not a name, a space, and the sha256 of a token in 64 hexadecimal digits")]
    NoToken,
    /// Of a file of revoked tokens.
    #[error("it is not a token's id of 16 hexadecimal digits")]
    NoId,
    /// The name.
    #[error(transparent)]
    Name(#[from] AccountError),
    /// The same name again.
    #[error("{0} has a password already")]
    Twice(String),
    /// The same token again.
    #[error("this token is there already")]
    TokenTwice,
    /// MD5, SHA-1, crypt, or nothing.
    #[error(
        "the hash of {0} is neither bcrypt ($2a$, $2b$, $2y$) nor argon2: make it anew with `htpasswd -nB {0}`"
    )]
    Kind(String),
    /// A hash of a known kind that is cut or garbled.
    #[error("the hash of {0} is cut or garbled")]
    Garbled(String),
    /// A hash that would take a server down.
    #[error(
        "the hash of {0} takes too much to verify: bcrypt may have a cost of at most 15, argon2 256 MiB, 16 passes and 16 lanes"
    )]
    Costly(String),
}

/// Settings are short; what is longer is another file.
const MOST: u64 = 4 << 20;

/// The whole of a file that decides who is trusted.
pub(crate) fn read(path: &Path, readers: Readers) -> Result<Vec<u8>, AccessError> {
    Ok(hab_trusted_file::read(path, readers, MOST)?)
}

/// Every line that says something, with its number; `take` says what is wrong with one.
pub(crate) fn lines(
    path: &Path,
    readers: Readers,
    mut take: impl FnMut(&str) -> Result<(), LineError>,
) -> Result<(), AccessError> {
    let text = hab_trusted_file::read_text(path, readers, MOST)?;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        take(line).map_err(|problem| AccessError::Line { path: path.to_owned(), line: at + 1, problem })?;
    }
    Ok(())
}
