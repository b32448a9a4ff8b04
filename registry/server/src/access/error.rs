//! Why the files and the settings of access control cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use hab_trusted_file::Readers;

use super::account::AccountError;

/// Why a file or a setting cannot be used. Each is one sentence: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file is missing, may not be read, or must not be trusted: others could have written it, or could read its
    /// secrets.
    #[error(transparent)]
    File(#[from] hab_trusted_file::Error),
    /// A file could not be written.
    #[error("{path} could not be written", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A line of a file is wrong.
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
    /// A file holds no valid key.
    #[error("{path} is not the key of issued tokens, 64 hexadecimal digits: restore it from a backup, or remove it, \
         and all issued tokens are void", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// A text is not the id of an issued token.
    #[error("{0:?} is not a token's id: 16 hexadecimal digits, as `registry token issue` prints them")]
    Id(String),
    /// An access rule has an empty list.
    #[error(
        "access rule {0} has an empty list: who, repositories and actions must each name at least one; leave out \
         repositories to mean all"
    )]
    Rule(usize),
    /// The address for clients is not valid.
    #[error("url {0:?} is not an address such as https://farm.example:5000")]
    Url(String),
    /// A rate allows no request at all.
    #[error("a limit needs at least one request a second and a burst of at least one")]
    Limit,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] io::Error),
    /// A file of certificates or keys is not PEM.
    #[error("cannot parse {path} as PEM", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file lacks what it should hold.
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
    /// A file is not a certificate revocation list.
    #[error("cannot parse {path} as a certificate revocation list", path = path.display())]
    Revocations {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: openssl::error::ErrorStack,
    },
    /// Certificates of authorities that cannot be used.
    #[error("{path} cannot be used to verify clients' certificates", path = path.display())]
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
    /// A line of a file of passwords is not `name:hash`.
    #[error("the line is not name:hash")]
    NoColon,
    /// A line of a file of tokens is not a name and a digest.
    #[error("the line is not a name, a space, and the sha256 of a token in 64 hexadecimal digits")]
    NoToken,
    /// A line of a file of revoked tokens is not an id.
    #[error("the line is not a token's id of 16 hexadecimal digits")]
    NoId,
    /// The name is not one of an account.
    #[error(transparent)]
    Name(#[from] AccountError),
    /// A name occurs twice.
    #[error("{0} has a password already")]
    Twice(String),
    /// A token occurs twice.
    #[error("this token is on an earlier line already")]
    TokenTwice,
    /// The hash is MD5, SHA-1, crypt, or missing.
    #[error(
        "the hash of {0} is neither bcrypt ($2a$, $2b$, $2y$) nor argon2: make it anew with `htpasswd -nB {0}`"
    )]
    Kind(String),
    /// The hash is of a known kind, but cut or garbled.
    #[error("the hash of {0} is cut or garbled")]
    Garbled(String),
    /// The hash would take so much that it could stop the server.
    #[error(
        "the hash of {0} is too costly to verify: bcrypt may have a cost of at most 15, argon2 at most 256 MiB, 16 \
         passes and 16 lanes"
    )]
    Costly(String),
}

/// The largest file of settings that is read, in bytes; a longer one is some other file.
const MOST: u64 = 4 << 20;

/// Reads a whole file that decides who is trusted.
pub(crate) fn read(path: &Path, readers: Readers) -> Result<Vec<u8>, AccessError> {
    Ok(hab_trusted_file::read(path, readers, MOST)?)
}

/// Calls `take` with every line that is not empty and no comment. An error of `take` is returned with the line's
/// number.
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
