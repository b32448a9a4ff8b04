//! Computes the git tree id of a tar archive's content, to compare an export with a signed commit.

use std::collections::BTreeMap;
use std::io::{self, Read};

use git2::{ObjectType, Oid};
use hab_archive::{Kind, Limits, Stream, Tar, shown};
use hab_oci::{Algorithm, Digest, Hasher};

/// Limits for an exported tree; its folders nest no deeper than the export allows.
const LIMITS: Limits = Limits {
    name: 4096,
    link: 4096,
    depth: 260,
    entries: 2_000_000,
    // An entry is held in memory, because libgit2 hashes with collision detection only whole contents.
    entry: 1 << 30,
    total: 64 << 30,
    ..Limits::ORDINARY
};

pub(crate) struct Hashed {
    pub tree: Oid,
    pub digest: Digest,
    pub size: u64,
}

enum Node {
    File { mode: &'static str, id: Oid },
    Folder(BTreeMap<String, Node>),
}

/// Computes the tree of a tar archive whose paths have one common first folder.
pub(crate) fn of_tar(tar: &mut dyn Read) -> Result<Hashed, String> {
    let mut tee = Tee { inner: tar, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
    let mut root = BTreeMap::new();
    let mut archive = Tar::new(Stream(&mut tee), &LIMITS);
    let mut top: Option<Vec<u8>> = None;
    while let Some(entry) = archive.next_entry().map_err(|e| e.words())? {
        let path = entry.text().ok_or_else(|| format!("{} is not UTF-8", shown(&entry.path)))?;
        let (first, inner) = path.split_once('/').ok_or_else(|| format!("{path} lies in no folder"))?;
        // An unpacker drops the first folder, so there must be only one.
        if top.get_or_insert_with(|| first.as_bytes().to_vec()) != first.as_bytes() {
            return Err(format!("{} lies in another folder than the entry before", shown(&entry.path)));
        }
        let inner = inner.to_owned();
        let node = match &entry.kind {
            // git has no empty folders; others appear with their files
            Kind::Directory => continue,
            Kind::Link(target) => Node::File { mode: "120000", id: blob(target)? },
            Kind::File => {
                let owner = entry.mode & 0o100 != 0;
                // An unpacker that looks at any execute bit would make the file executable, unlike git.
                if entry.executable() != owner {
                    return Err(format!("{} may be executed by some and not by others", shown(&entry.path)));
                }
                let content = archive.whole(LIMITS.entry).map_err(|e| e.words())?;
                Node::File { mode: if owner { "100755" } else { "100644" }, id: blob(&content)? }
            }
            Kind::HardLink(_) | Kind::Special(_) => {
                return Err(format!("{} is neither a file nor a link", shown(&entry.path)));
            }
        };
        insert(&mut root, &inner, node)?;
    }
    archive.finish().map_err(|e| e.words())?;
    let tree = write_tree(&root)?;
    Ok(Hashed { tree, digest: tee.hasher.finish(), size: tee.size })
}

fn insert(folder: &mut BTreeMap<String, Node>, path: &str, node: Node) -> Result<(), String> {
    if let Some((first, rest)) = path.split_once('/') {
        let child = folder.entry(first.to_owned()).or_insert_with(|| Node::Folder(BTreeMap::new()));
        return match child {
            Node::Folder(inner) => insert(inner, rest, node),
            Node::File { .. } => Err(format!("{first} is both a file and a folder")),
        };
    }
    match folder.insert(path.to_owned(), node) {
        None => Ok(()),
        Some(_) => Err(format!("{path} stands twice in the archive")),
    }
}

fn blob(content: &[u8]) -> Result<Oid, String> {
    Oid::hash_object(ObjectType::Blob, content).map_err(|e| e.to_string())
}

/// The id of git's tree object: `mode name NUL id`, sorted as if a folder's name ended in a slash.
fn write_tree(folder: &BTreeMap<String, Node>) -> Result<Oid, String> {
    let mut entries = Vec::new();
    for (name, node) in folder {
        entries.push(match node {
            Node::File { mode, id } => (name.clone(), *mode, name, *id),
            Node::Folder(inner) => (format!("{name}/"), "40000", name, write_tree(inner)?),
        });
    }
    entries.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    let mut bytes = Vec::new();
    for (_, mode, name, id) in entries {
        bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        bytes.extend_from_slice(id.as_bytes());
    }
    Oid::hash_object(ObjectType::Tree, &bytes).map_err(|e| e.to_string())
}

struct Tee<'a> {
    inner: &'a mut dyn Read,
    hasher: Hasher,
    size: u64,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.size += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An archive of files with their modes.
    fn archive(entries: &[(&str, u8, u32, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, mode, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(tar::EntryType::new(*kind));
            header.set_mode(*mode);
            if *kind == b'2' {
                header.set_link_name(content).unwrap();
            }
            let content = if *kind == b'0' { content } else { "" };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_tree_has_the_id_that_git_gives_it() {
        let bytes = archive(&[
            ("s/d/", b'5', 0o755, ""),
            ("s/d/a", b'0', 0o644, "one\n"),
            ("s/l", b'2', 0o777, "d/a"),
            ("s/x", b'0', 0o755, "two\n"),
        ]);
        let hashed = of_tar(&mut bytes.as_slice()).unwrap();
        // From `git mktree` with these three entries.
        assert_eq!(hashed.tree.to_string(), TREE);
        assert_eq!((hashed.size, hashed.digest), (bytes.len() as u64, Digest::of(&bytes)));
    }

    const TREE: &str = "57b641cea051ebf0d9838a2ccdd741ea86ee6f87";

    #[test]
    fn what_git_and_an_unpacker_would_see_otherwise_is_refused() {
        for (entries, words) in [
            (vec![("s/a", b'0', 0o644, ""), ("t/b", b'0', 0o644, "")], "lies in another folder"),
            (vec![("a", b'0', 0o644, "")], "lies in no folder"),
            (vec![("s/a", b'0', 0o654, "")], "executed by some"),
            (vec![("s/a", b'1', 0o644, "")], "a link without a target"),
            (vec![("s/a", b'3', 0o644, "")], "neither a file nor a link"),
            (vec![("s/a", b'S', 0o644, "")], "sparse"),
            (vec![("s/a", b'0', 0o644, ""), ("s/a", b'0', 0o644, "")], "stands twice"),
            (vec![("s/a", b'0', 0o644, ""), ("s/a/b", b'0', 0o644, "")], "both a file and a folder"),
        ] {
            let error = of_tar(&mut archive(&entries).as_slice()).err().unwrap();
            assert!(error.contains(words), "{words}: {error}");
        }
        let hidden = [archive(&[("s/a", b'0', 0o644, "")]), archive(&[("s/b", b'0', 0o644, "")])].concat();
        assert!(of_tar(&mut hidden.as_slice()).err().unwrap().contains("bytes follow the archive's end"));
        let cut = &hidden[..512];
        assert!(of_tar(&mut &*cut).err().unwrap().contains("before its end marker"));
    }
}
