//! Parses git objects from their bytes: git-mktag(1), gitformat-signature(5), and the headers of a commit.
//!
//! Nothing here asks a repository: grafts and replace refs change what a repository reports about a commit, but not the
//! commit's bytes.

use std::collections::BTreeMap;

use git2::{ObjectType, Odb, Oid};

/// How deep folders may nest; Bitcoin Core's nest 7 deep. Deeper ones are made to exhaust a stack.
pub(crate) const DEPTH: usize = 256;

/// The largest tag or commit that is judged, in bytes.
const LIMIT: usize = 4 << 20;

/// A parsed commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit<'a> {
    pub tree: Oid,
    pub parents: Vec<Oid>,
    /// The committer's date, in seconds since 1970.
    pub epoch: i64,
    pub message: &'a [u8],
    /// The armored signature, without git's indentation.
    pub signature: Option<Vec<u8>>,
    /// The signed bytes: everything but the signature's own header.
    pub payload: Vec<u8>,
}

/// The largest tree that is read, in bytes: a million files in one folder.
const TREE_LIMIT: usize = 64 << 20;

/// Refuses an object that is larger than its kind allows, before it is unpacked: a pack of megabytes can hold an object
/// of gigabytes.
pub(crate) fn admit(odb: &Odb<'_>, id: Oid) -> Result<(), git2::Error> {
    let (size, kind) = odb.read_header(id)?;
    let limit = match kind {
        ObjectType::Tree => TREE_LIMIT,
        ObjectType::Commit | ObjectType::Tag => LIMIT,
        // Files have a limit of their own where they are hashed.
        _ => return Ok(()),
    };
    if size <= limit {
        return Ok(());
    }
    Err(git2::Error::from_str(&format!("object {id} has {size} bytes, more than the limit of {limit}")))
}

/// Checks that `bytes` are the object that `id` names.
pub(crate) fn has_id(kind: ObjectType, bytes: &[u8], id: &str) -> Result<(), &'static str> {
    // libgit2 hashes with collision detection, so a SHA-1 collision attack is an error here, not a match.
    match Oid::hash_object(kind, bytes) {
        Ok(actual) if actual.to_string() == id => Ok(()),
        Ok(_) => Err("an object does not have the id that it is stored under"),
        Err(_) => Err("an object cannot be hashed: it looks like an attempt at a collision"),
    }
}

/// Parses a commit. Its headers must be in git's order: one tree, parents, one author, one committer, then others, of
/// which at most one is a signature. Anything else is refused, because readers would differ about it.
pub(crate) fn commit(bytes: &[u8]) -> Result<Commit<'_>, String> {
    if bytes.len() > LIMIT {
        return Err(format!("it has {} bytes, more than the limit of {LIMIT}", bytes.len()));
    }
    let end = find(bytes, b"\n\n").ok_or("its headers do not end")?;
    let mut found = Headers::default();
    let mut payload = Vec::with_capacity(bytes.len());
    let mut in_signature = false;
    for line in bytes[..=end].split_inclusive(|b| *b == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(continued) = text.strip_prefix(b" ") {
            if let Some(signature) = found.signature.as_mut().filter(|_| in_signature) {
                signature.extend_from_slice(continued);
                signature.push(b'\n');
            } else {
                payload.extend_from_slice(line);
            }
            continue;
        }
        let (name, value) = split_header(text).ok_or("a line of its headers is not a header")?;
        in_signature = name == b"gpgsig";
        if !in_signature {
            payload.extend_from_slice(line);
        }
        found.header(name, value)?;
    }
    payload.extend_from_slice(&bytes[end + 1..]);
    Ok(Commit {
        tree: found.tree.ok_or("it names no tree")?,
        parents: found.parents,
        epoch: found.epoch.ok_or("it has no committer")?,
        message: &bytes[end + 2..],
        signature: found.signature,
        payload,
    })
}

#[derive(Default)]
struct Headers {
    tree: Option<Oid>,
    parents: Vec<Oid>,
    author: bool,
    epoch: Option<i64>,
    signature: Option<Vec<u8>>,
}

impl Headers {
    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        let id = || {
            let text = std::str::from_utf8(value).ok().filter(|text| text.len() == 40);
            text.and_then(|text| Oid::from_str(text).ok()).ok_or("a header does not hold an object id")
        };
        match name {
            b"tree" if self.tree.is_none() => self.tree = Some(id()?),
            b"parent" if self.tree.is_some() && !self.author => self.parents.push(id()?),
            b"author" if self.tree.is_some() && !self.author => self.author = true,
            b"committer" if self.author && self.epoch.is_none() => {
                self.epoch = Some(epoch(value).ok_or("its committer has no date")?);
            }
            b"gpgsig" if self.epoch.is_some() && self.signature.is_none() => {
                self.signature = Some([value, b"\n"].concat());
            }
            b"tree" | b"parent" | b"author" | b"committer" | b"gpgsig" => {
                let name = String::from_utf8_lossy(name);
                return Err(format!("its header {name} stands twice or out of order"));
            }
            b"gpgsig-sha256" => return Err("it has a signature over another hash of itself".to_owned()),
            // `encoding`, `mergetag`, and headers of other tools; all of them are signed.
            _ if self.epoch.is_some() => {}
            _ => return Err("a header stands before its committer".to_owned()),
        }
        Ok(())
    }
}

/// Parses the time of `Name <address> seconds zone`.
fn epoch(value: &[u8]) -> Option<i64> {
    let text = value.rsplit(|b| *b == b'>').next()?;
    std::str::from_utf8(text).ok()?.split_whitespace().next()?.parse().ok()
}

fn split_header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|b| *b == b' ')?;
    (at > 0).then(|| (&line[..at], &line[at + 1..]))
}

/// The value of a tag's header before the first empty line. A header that occurs twice counts as absent: otherwise a
/// forger could choose which one a reader takes.
pub(crate) fn tag_header<'a>(object: &'a [u8], name: &str) -> Option<&'a str> {
    let end = find(object, b"\n\n").unwrap_or(object.len());
    let text = std::str::from_utf8(object.get(..end)?).ok()?;
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// An entry of a tree: the object's id, its kind, and the mode.
pub(crate) type TreeEntry = (Oid, ObjectType, i32);

/// The entries of a tree by name; `None` if they are not in git's order, or a name occurs twice. Readers differ about
/// such a tree: looking up a name finds other entries than listing them.
pub(crate) fn tree_entries(tree: &git2::Tree<'_>) -> Option<BTreeMap<Vec<u8>, TreeEntry>> {
    let mut entries = BTreeMap::new();
    let mut last: Option<Vec<u8>> = None;
    for entry in tree {
        let kind = entry.kind()?;
        let mut key = entry.name_bytes().to_vec();
        entries.insert(key.clone(), (entry.id(), kind, entry.filemode_raw()));
        // git sorts a folder as if its name ended in a slash.
        if kind == ObjectType::Tree {
            key.push(b'/');
        }
        if last.as_ref().is_some_and(|last| *last >= key) {
            return None;
        }
        last = Some(key);
    }
    // In that order, a file and a folder of the same name need not be neighbours.
    (entries.len() == tree.len()).then_some(entries)
}

pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "94302503b9e73730a316c97c0e48ad274bdbfed2";

    fn text() -> String {
        format!(
            "tree {ID}\nparent {ID}\nparent {ID}\nauthor A > B <a@x> 1 +0000\ncommitter C <c@x> 1784548624 +0200\n\
             gpgsig -----BEGIN\n \n abc\n -----END\nencoding x\n\nMessage\n\ntree {ID}\n"
        )
    }

    #[test]
    fn a_commit_is_taken_apart() {
        let text = text();
        let commit = commit(text.as_bytes()).unwrap();
        assert_eq!((commit.parents.len(), commit.epoch), (2, 1_784_548_624));
        assert_eq!(commit.signature.unwrap(), b"-----BEGIN\n\nabc\n-----END\n");
        assert_eq!(commit.message, format!("Message\n\ntree {ID}\n").as_bytes());
        let payload = String::from_utf8(commit.payload).unwrap();
        assert_eq!(payload, text.replace("gpgsig -----BEGIN\n \n abc\n -----END\n", ""));
    }

    #[test]
    fn headers_that_readers_would_differ_about_are_refused() {
        let tree = format!("tree {ID}\n");
        let parent = format!("parent {ID}\n");
        for (from, to) in [
            (tree.as_str(), [tree.as_str(), &tree].concat()),
            (tree.as_str(), String::new()),
            (tree.as_str(), format!("tree {}\n", &ID[..39])),
            ("encoding x\n", "gpgsig x\n".to_owned()),
            ("encoding x\n", "gpgsig-sha256 x\n".to_owned()),
            ("encoding x\n", parent.clone()),
            ("encoding x\n", "encoding\n".to_owned()),
            ("author A", "hidden x\nauthor A".to_owned()),
            ("1784548624 +0200", "never".to_owned()),
            ("\n\nMessage", "\nMessage".to_owned()),
        ] {
            let bad = text().replacen(from, &to, 1);
            let bad = if from.starts_with("\n\n") { bad.replace("\n\n", "\n") } else { bad };
            assert!(commit(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
