//! Why a file is not read: one sentence, with the command that mends it.

use std::io;
use std::path::{Path, PathBuf};

/// A file cannot be read, or must not be trusted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there, or the system does not let this program read it.
    #[error("cannot read {}", said(path))]
    Read {
        /// The path that the caller asked for.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Somebody else controls the file, or a folder or a link on the way to it.
    #[error("refuse to read {}: {}{wrong}{}", said(path), subject(path, at), mended(at, wrong))]
    Refused {
        /// The path that the caller asked for.
        path: PathBuf,
        /// What is wrong: the file itself, or a folder or link that leads to it.
        at: PathBuf,
        /// What is wrong with it.
        wrong: Wrong,
    },
    /// The file is larger than it may be.
    #[error("refuse to read {}: it has more than {limit} bytes", said(path))]
    TooLarge {
        /// The path that the caller asked for.
        path: PathBuf,
        /// The most bytes that it may have.
        limit: u64,
    },
}

/// What is wrong with a file, a folder or a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It belongs to a user who could change it at any time.
    #[error("it belongs to user {owner}, neither to root nor to the user of this program ({us})")]
    Owner {
        /// That user's number.
        owner: u32,
        /// The user that this program runs as.
        us: u32,
    },
    /// Its group, or everybody, may write or read it.
    #[error("{} (mode {mode:04o})", who_may(*excess))]
    Mode {
        /// Its permissions.
        mode: u32,
        /// The permission bits that must not be set.
        excess: u32,
    },
    /// Others may put files into its folder, and the file has several names (hard links): somebody may have given this
    /// name to another file.
    #[error("others may write its folder, and the same file has {0} names")]
    Names(u64),
    /// It is a folder, a device, a socket or a pipe.
    #[error("it is not a regular file")]
    Kind,
    /// Symbolic links lead to further links, without end.
    #[error("more than 40 symbolic links lead to it")]
    Links,
}

impl Error {
    /// Whether the only problem is that there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The command that mends the problem, if there is one.
    pub fn mend(&self) -> Option<String> {
        match self {
            Self::Refused { at, wrong, .. } => wrong.mend(at),
            _ => None,
        }
    }
}

impl Wrong {
    fn mend(self, at: &Path) -> Option<String> {
        match self {
            // For a link, `-h` changes the link itself; for anything else it changes nothing.
            Self::Owner { us: 0, .. } => Some(format!("chown -h root {}", said(at))),
            Self::Owner { us, .. } => Some(format!("chown -h {us} {}", said(at))),
            Self::Mode { excess, .. } => Some(format!("chmod {} {}", less(excess), said(at))),
            Self::Names(_) | Self::Kind | Self::Links => None,
        }
    }
}

fn mended(at: &Path, wrong: &Wrong) -> String {
    wrong.mend(at).map(|command| format!("; mend it with `{command}`")).unwrap_or_default()
}

/// Names the folder or link that is wrong; nothing if it is the file itself.
fn subject(path: &Path, at: &Path) -> String {
    if path == at { String::new() } else { format!("{} leads to it, and ", said(at)) }
}

fn who_may(excess: u32) -> String {
    let who = match (excess & 0o070 != 0, excess & 0o007 != 0) {
        (true, true) => "its group and others",
        (true, false) => "its group",
        _ => "others",
    };
    let what = match (excess & 0o022 != 0, excess & 0o044 != 0) {
        (true, true) => "read and write",
        (true, false) => "write",
        _ => "read",
    };
    format!("{who} may {what} it")
}

/// The mode argument for `chmod` that takes these bits away.
fn less(excess: u32) -> String {
    let word = |who: char, bits: u32| {
        let letters: String = [(4, 'r'), (2, 'w'), (1, 'x')]
            .iter()
            .filter(|(bit, _)| bits & bit != 0)
            .map(|(_, c)| c)
            .collect();
        (!letters.is_empty()).then(|| format!("{who}-{letters}"))
    };
    let words: Vec<String> = [word('g', excess >> 3), word('o', excess)].into_iter().flatten().collect();
    words.join(",")
}

/// Quotes a path for a shell; quotes keep special characters from forging a sentence.
fn said(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into_owned() } else { format!("{path:?}") }
}
