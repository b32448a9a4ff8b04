//! Finds what belongs to a project but is not in its repository: submodules, which are other repositories, and files
//! that Git LFS stores elsewhere. Neither is mirrored; the operator gets a note.

use std::collections::{BTreeMap, BTreeSet};

use git2::{ObjectType, Oid};
use serde::{Deserialize, Serialize};

use super::GitMirror;
use super::url::without_user;
use crate::MirrorError;

/// The most branches that are read, besides the one that HEAD names.
const BRANCHES: usize = 50;
/// The most files and folders that are read, of all branches together.
const ENTRIES: usize = 500_000;
/// The most submodules that are named.
const SUBMODULES: usize = 1000;
/// The largest `.gitmodules` or `.gitattributes` that is read, in bytes.
const TEXT: usize = 1 << 20;
/// The largest LFS pointer file, in bytes (the LFS specification's own limit).
const POINTER: usize = 1024;
/// The first bytes of a pointer file.
const POINTER_START: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What a project's branches need and its repository does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lacking {
    /// Submodules: other repositories, with the path at which they belong.
    pub submodules: Vec<Submodule>,
    /// The number of files that Git LFS stores elsewhere.
    pub lfs_files: u64,
    /// The size of those files in bytes, by their pointers.
    pub lfs_bytes: u64,
    /// Whether a limit was reached, so that there may be more.
    pub partly: bool,
}

/// A repository within another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Submodule {
    /// The path at which it belongs.
    pub path: String,
    /// Its address in `.gitmodules`; it may be relative to the project's own.
    pub url: Option<String>,
}

impl Lacking {
    /// Whether the repository holds everything.
    pub fn is_nothing(&self) -> bool {
        self.submodules.is_empty() && self.lfs_files == 0
    }
}

/// What a walk through the branches has found so far.
#[derive(Default)]
struct WalkState {
    trees: BTreeSet<Oid>,
    blobs: BTreeSet<Oid>,
    submodules: BTreeSet<String>,
    urls: BTreeMap<String, String>,
    lfs: bool,
    entries: usize,
}

impl GitMirror {
    /// What the branch that HEAD names and fifty others need and the repository does not hold.
    pub fn lacking(&self) -> Result<Lacking, MirrorError> {
        let branches = self.targets("refs/heads/")?;
        let head = self.head();
        let first = head.iter().filter_map(|name| branches.get(name));
        let mut seen = WalkState::default();
        for tip in first.chain(branches.values()).take(BRANCHES + 1) {
            let what = |name: &str| format!("{name} of {}", self.project);
            let commit =
                self.repository.find_commit(*tip).map_err(|e| self.unreadable(what("a commit"), &e))?;
            if let Ok(tree) = commit.tree()
                && let Some(entry) = tree.get_name(".gitmodules")
                && let Some(text) = self.text(entry.id())
            {
                seen.urls.extend(addresses(&text));
            }
            self.look(commit.tree_id(), &mut seen)?;
        }
        let mut lacking = Lacking { partly: seen.entries >= ENTRIES, ..Lacking::default() };
        for path in seen.submodules {
            let url = seen.urls.get(&path).map(|url| without_user(url));
            lacking.submodules.push(Submodule { path, url });
        }
        if seen.lfs {
            for id in &seen.blobs {
                if let Some(bytes) = self.pointer(*id) {
                    lacking.lfs_files += 1;
                    lacking.lfs_bytes = lacking.lfs_bytes.saturating_add(bytes);
                }
            }
        }
        Ok(lacking)
    }

    fn look(&self, tree: Oid, seen: &mut WalkState) -> Result<(), MirrorError> {
        let mut waiting = vec![(tree, String::new())];
        while let Some((id, prefix)) = waiting.pop() {
            if !seen.trees.insert(id) {
                continue;
            }
            let what = || format!("folder {prefix:?} of {}", self.project);
            let tree = self.repository.find_tree(id).map_err(|e| self.unreadable(what(), &e))?;
            for entry in &tree {
                seen.entries += 1;
                if seen.entries >= ENTRIES {
                    return Ok(());
                }
                let path = || format!("{prefix}{}", String::from_utf8_lossy(entry.name_bytes()));
                match entry.kind() {
                    Some(ObjectType::Tree) => waiting.push((entry.id(), path() + "/")),
                    Some(ObjectType::Commit) if seen.submodules.len() < SUBMODULES => {
                        seen.submodules.insert(path());
                    }
                    Some(ObjectType::Blob) => {
                        let attributes = entry.name_bytes() == b".gitattributes";
                        if seen.blobs.insert(entry.id())
                            && attributes
                            && let Some(text) = self.text(entry.id())
                        {
                            seen.lfs |= text.contains("filter=lfs");
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The text of a small file; `None` if it is large or not a file.
    fn text(&self, id: Oid) -> Option<String> {
        let odb = self.repository.odb().ok()?;
        let (size, kind) = odb.read_header(id).ok()?;
        let small = kind == ObjectType::Blob && size <= TEXT;
        small.then(|| odb.read(id).ok()).flatten().map(|o| String::from_utf8_lossy(o.data()).into_owned())
    }

    /// The size of the real file, if this one is an LFS pointer.
    fn pointer(&self, id: Oid) -> Option<u64> {
        let odb = self.repository.odb().ok()?;
        let (size, _) = odb.read_header(id).ok()?;
        if size > POINTER {
            return None;
        }
        let object = odb.read(id).ok()?;
        object.data().starts_with(POINTER_START).then(|| {
            let text = String::from_utf8_lossy(object.data()).into_owned();
            let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
            size.unwrap_or(0)
        })
    }
}

/// The addresses in a `.gitmodules`, by path (gitmodules(5)).
fn addresses(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (mut path, mut url) = (None, None);
    for line in text.lines().map(str::trim).chain(["["]) {
        if line.starts_with('[') {
            if let (Some(path), Some(url)) = (path.take(), url.take()) {
                found.insert(path, url);
            }
            (path, url) = (None, None);
        } else if let Some((name, value)) = line.split_once('=') {
            let value = Some(value.trim().trim_matches('"').to_owned());
            match name.trim() {
                "path" => path = value,
                "url" => url = value,
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submodule_s_address_is_found_by_its_path() {
        let text = "[submodule \"a\"]\n\tpath = src/a\n\turl = https://h.invalid/a.git\n[other]\nurl = x\n\
                    [submodule \"b\"]\n  url = \"../b.git\"\n  path = b\n";
        let found = addresses(text);
        assert_eq!((found["src/a"].as_str(), found["b"].as_str()), ("https://h.invalid/a.git", "../b.git"));
        assert_eq!(found.len(), 2);
    }
}
