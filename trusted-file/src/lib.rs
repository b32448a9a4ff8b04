//! Reads files that decide who is trusted (configuration, passwords, keys, certificates), and refuses those that somebody
//! else could have written, or could read where they are secret.
//!
//! In scope: who owns a file and who may write or read it; the same for every folder and link on the way to it. Out of
//! scope: what is in the file. Start at [`read`].
//!
//! The rules, for the file itself, for each folder above it up to `/`, and for each symbolic link on the way:
//!
//! - it belongs to root, or to the user that this program runs as;
//! - neither its group nor others may write it. A folder with the sticky bit, such as `/tmp`, is an exception: others can
//!   neither remove nor replace there what is not theirs, and what is in it has to meet the same rules;
//! - the file is a regular file, and only those read it whom [`Readers`] names.
//!
//! Symbolic links are followed, because certificate clients and Kubernetes put current files behind them; but by hand, so
//! that every folder that a link leads through is looked at too. What is checked is the opened file, so that it cannot be
//! exchanged between the check and the reading. An access control list that lets anybody else write shows in the mode's
//! bits for the group, and is refused with them.

mod error;
mod walk;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

pub use error::{Error, Wrong};

/// Who may read a file, beside its owner and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everybody: a certificate, a configuration without secrets.
    Everybody,
    /// The file's group, if root owns the file and so chose that group: a password file that is `root:hab 0640`, a secret
    /// that Kubernetes mounts for a group. Nobody else.
    GroupOfRoot,
    /// Nobody: a key that this program made for itself.
    Nobody,
}

/// Opens a file for reading, if nobody else could have written it, and nobody reads it who must not.
pub fn open(path: &Path, readers: Readers) -> Result<File, Error> {
    walk::open(path, readers, rustix::process::geteuid().as_raw())
}

/// The whole of a file, by the same rules; an error if it has more than `limit` bytes.
pub fn read(path: &Path, readers: Readers, limit: u64) -> Result<Vec<u8>, Error> {
    let file = open(path, readers)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// [`read`] of a text.
pub fn read_text(path: &Path, readers: Readers, limit: u64) -> Result<String, Error> {
    String::from_utf8(read(path, readers, limit)?).map_err(|e| Error::Read {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, e.utf8_error()),
    })
}
