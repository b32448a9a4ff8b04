//! Reads files that decide who is trusted (configuration, passwords, keys, certificates). Refuses files that somebody
//! else could have written, and secret files that somebody else can read.
//!
//! In scope: who owns a file and who may write or read it; the same for every folder and link on the way to it. Out of
//! scope: the file's contents. Start at [`read`].
//!
//! The rules, for the file itself, for each folder above it up to `/`, and for each symbolic link on the way:
//!
//! - it belongs to root, or to the user that this program runs as;
//! - neither its group nor others may write it. A folder with the sticky bit, such as `/tmp`, is an exception: others
//!   cannot remove or replace there what is not theirs, and everything in it must meet the same rules;
//! - the file is a regular file, and only users that [`Readers`] names may read it.
//!
//! Symbolic links are followed, because certificate clients and Kubernetes put current files behind them. They are
//! followed by hand, so that every folder that a link leads through is checked too. The checks look at the opened file,
//! so nobody can exchange it between check and reading. An access control list that lets somebody else write shows in
//! the mode's group bits, and is refused with them.

mod error;
mod walk;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

pub use error::{Error, Wrong};

/// Who may read a file, besides its owner and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everybody: for a certificate, or a configuration without secrets.
    Everybody,
    /// Only the file's group, if root owns the file and so chose the group: for a password file that is
    /// `root:hab 0640`, or a secret that Kubernetes mounts for a group.
    GroupOfRoot,
    /// Nobody: for a key that this program made for itself.
    Nobody,
}

/// Opens a file for reading, if nobody else could have written it and nobody may read it but `readers`.
pub fn open(path: &Path, readers: Readers) -> Result<File, Error> {
    walk::open(path, readers, rustix::process::geteuid().as_raw())
}

/// Reads a whole file by the rules of [`open`]; an error if it has more than `limit` bytes.
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

/// Like [`read`], for a text in UTF-8.
pub fn read_text(path: &Path, readers: Readers, limit: u64) -> Result<String, Error> {
    String::from_utf8(read(path, readers, limit)?).map_err(|e| Error::Read {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, e.utf8_error()),
    })
}
