//! The git tree id of a tar archive's content, so that an export can be held against a signature.

use std::collections::BTreeMap;
use std::io::{self, Read};

use git2::{ObjectType, Oid};
use hab_oci::{Algorithm, Digest, Hasher};

/// The largest single file that is hashed, in bytes.
const FILE_LIMIT: u64 = 1 << 30;

pub(crate) struct Hashed {
    pub tree: Oid,
    pub digest: Digest,
    pub size: u64,
}

enum Node {
    File { mode: &'static str, id: Oid },
    Folder(BTreeMap<String, Node>),
}

/// Reads a tar archive whose paths have one leading folder.
pub(crate) fn of_tar(tar: &mut dyn Read) -> Result<Hashed, String> {
    let mut tee = Tee { inner: tar, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
    let mut root = BTreeMap::new();
    let mut archive = tar::Archive::new(&mut tee);
    for entry in archive.entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| e.to_string())?;
        let path = String::from_utf8(entry.path_bytes().into_owned()).map_err(|e| e.to_string())?;
        let kind = entry.header().entry_type();
        let Some((_, inner)) = path.trim_end_matches('/').split_once('/') else { continue };
        let node = if kind.is_dir() {
            continue; // git has no empty folders; the others appear with their files
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().ok_or("a link without a target")?.into_owned();
            Node::File { mode: "120000", id: blob(&target)? }
        } else if kind.is_file() {
            let executable = entry.header().mode().map_err(|e| e.to_string())? & 0o100 != 0;
            let mut content = Vec::new();
            entry.by_ref().take(FILE_LIMIT + 1).read_to_end(&mut content).map_err(|e| e.to_string())?;
            if content.len() as u64 > FILE_LIMIT {
                return Err(format!("{inner} is larger than {FILE_LIMIT} bytes"));
            }
            Node::File { mode: if executable { "100755" } else { "100644" }, id: blob(&content)? }
        } else {
            return Err(format!("{inner} is neither a file nor a link"));
        };
        insert(&mut root, inner, node)?;
    }
    io::copy(&mut tee, &mut io::sink()).map_err(|e| e.to_string())?;
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

/// Git's tree object: `mode name NUL id`, sorted as if a folder's name ended in a slash.
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
