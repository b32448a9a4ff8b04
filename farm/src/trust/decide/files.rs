//! Compares downloaded files with an accepted list of hashes.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use hab_keys::{HashList, Refusal};
use hab_oci::Digest;

use super::Decisions;
use crate::error::FarmError;
use crate::progress_reader::ProgressReader;

/// The file name endings of signatures.
const ENDINGS: [&str; 6] = ["asc", "sig", "sign", "gpg", "pgp", "signature"];
/// The first bytes of armored signatures.
const ARMOR: [&[u8]; 2] = [b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN SSH SIGNATURE-----"];

/// A file, and what the list says about it.
#[derive(Debug, serde::Serialize)]
pub struct HeldFile {
    /// The file.
    pub file: PathBuf,
    /// Its own digest.
    pub digest: Digest,
    /// The file's name in the list, if it is listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed_as: Option<String>,
    /// What the list says about it.
    #[serde(flatten)]
    pub held: Held,
}

/// What a list says about a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Held {
    /// The file has the hash in the list.
    Matches,
    /// The file has another hash.
    Differs {
        /// The hash in the list.
        expected: Digest,
    },
    /// The list has several hashes for the file's name, so it proves nothing.
    Contested,
    /// The list does not name the file.
    NotListed,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Matches => "matches",
            Self::Differs { .. } => "differs",
            Self::Contested => "listed with several hashes",
            Self::NotListed => "not listed",
        })
    }
}

impl Decisions<'_> {
    /// Hashes files of any size and compares them with a list.
    pub fn hold(&self, list: &HashList, files: &[PathBuf]) -> Result<Vec<HeldFile>, FarmError> {
        files.iter().map(|file| self.hold_one(list, file)).collect()
    }

    fn hold_one(&self, list: &HashList, file: &Path) -> Result<HeldFile, FarmError> {
        if !file.exists() {
            return Err(FarmError::missing(file));
        }
        let opened = File::open(file).map_err(FarmError::io(file))?;
        let metadata = opened.metadata().map_err(FarmError::io(file))?;
        if !metadata.is_file() {
            return Err(FarmError::Usage(format!("{} is not a file", file.display())));
        }
        let name = super::name(file);
        let progress = self.progress;
        let (what, done) = (format!("hash {name}:"), Cell::new(0));
        let total = metadata.len();
        let told = ProgressReader { inner: opened, progress, what: &what, done: &done, total };
        let digest = match Digest::of_reader(told) {
            Ok((digest, _)) => digest,
            Err(_) if cancelled(progress.cancel()) => {
                return Err(Refusal::Cancelled { what: file.display().to_string() }.into());
            }
            Err(e) => return Err(FarmError::io(file)(e)),
        };
        let (listed_as, held) = held(list, file, &name, &digest);
        Ok(HeldFile { file: file.to_owned(), digest, listed_as, held })
    }
}

/// What a list says about the file `name` at `path` with this digest. The entry that shares most of the path counts, so
/// that an entry for another folder never speaks for this file. If the list has the name only in folders that are not
/// on the path, all these entries must agree.
fn held(list: &HashList, path: &Path, name: &str, digest: &Digest) -> (Option<String>, Held) {
    let says = |expected: &Digest| {
        if expected == digest { Held::Matches } else { Held::Differs { expected: expected.clone() } }
    };
    let path = path.to_string_lossy();
    let ends = path.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| &path[at + 1..]);
    for end in std::iter::once(path.as_ref()).chain(ends) {
        if let Some(expected) = list.get(end) {
            return (Some(end.to_owned()), says(expected));
        }
        if list.contested().contains_key(end) {
            return (Some(end.to_owned()), Held::Contested);
        }
    }
    let last = |listed: &str| listed.rsplit('/').next() == Some(name);
    if let Some(listed) = list.contested().keys().find(|listed| last(listed)) {
        return (Some(listed.clone()), Held::Contested);
    }
    let below: Vec<_> = list.entries().iter().filter(|(listed, _)| last(listed)).collect();
    match below.first() {
        Some((listed, expected)) if below.iter().all(|(_, other)| other == expected) => {
            (Some((*listed).clone()), says(expected))
        }
        Some((listed, _)) => (Some((*listed).clone()), Held::Contested),
        None => (None, Held::NotListed),
    }
}

/// Whether a file on the command line is a signature, judged by its first bytes or else by its name.
pub fn is_signature(file: &Path) -> bool {
    let mut begin = Vec::new();
    let read = File::open(file).and_then(|file| file.take(64).read_to_end(&mut begin));
    if read.is_ok() && ARMOR.iter().any(|armor| begin.trim_ascii_start().starts_with(armor)) {
        return true;
    }
    file.extension().and_then(|e| e.to_str()).is_some_and(|e| ENDINGS.contains(&e))
}

fn cancelled(cancel: &AtomicBool) -> bool {
    cancel.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_in_a_list_by_its_name_and_below_a_folder() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let text = format!(
            "{a}  x\n{b}  dist/x\n{a}  one/y\n{b}  two/y\n{a}  one/v\n{a}  two/v\n{a}  z\n{b}  z\n",
            a = a.hex(),
            b = b.hex()
        );
        let list = HashList::parse(text.as_bytes()).unwrap();
        let say = |path: &str, digest: &Digest| {
            held(&list, Path::new(path), path.rsplit('/').next().unwrap(), digest)
        };
        assert_eq!(say("x", &a), (Some("x".to_owned()), Held::Matches));
        // An entry for that name in another folder does not count for a file that the list names itself.
        assert_eq!(say("x", &b), (Some("x".to_owned()), Held::Differs { expected: a.clone() }));
        assert_eq!(say("/home/dist/x", &b), (Some("dist/x".to_owned()), Held::Matches));
        // Folders disagree about a name, so only a path says which file is meant, and no other folder speaks for it.
        assert_eq!(say("y", &b), (Some("one/y".to_owned()), Held::Contested));
        assert_eq!(say("here/two/y", &b), (Some("two/y".to_owned()), Held::Matches));
        assert_eq!(say("one/y", &b), (Some("one/y".to_owned()), Held::Differs { expected: a.clone() }));
        assert_eq!(say("here/v", &a), (Some("one/v".to_owned()), Held::Matches));
        assert_eq!(say("v", &b).1, Held::Differs { expected: a.clone() });
        assert_eq!(say("z", &a), (Some("z".to_owned()), Held::Contested));
        assert_eq!(say("w", &a), (None, Held::NotListed));
    }
}
