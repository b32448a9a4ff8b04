//! Finds whether a check failed because the repository is incomplete: a shallow clone lacks history, a partial one
//! files or folders. Runs only after a check has failed.

use std::collections::BTreeSet;

use git2::{ObjectType, Oid, Repository};

use crate::object::Commit;

/// The most files and folders that are searched.
const ENTRIES: usize = 1_000_000;

/// The first thing that checking this commit needs and the repository lacks: part of its tree, or of its parents'
/// trees; or, for a merge, history that was cut off.
pub(super) fn first(repository: &Repository, commit: &Commit<'_>) -> Option<String> {
    let odb = repository.odb().ok()?;
    let mut trees = vec![commit.tree];
    // A merge is repeated from its parents.
    if commit.parents.len() > 1 {
        for parent in &commit.parents {
            match repository.find_commit(*parent) {
                Ok(parent) => trees.push(parent.tree_id()),
                Err(_) if !odb.exists(*parent) => return Some(format!("commit {parent}")),
                // A parent that cannot be parsed is not missing; the check itself reports it.
                Err(_) => {}
            }
        }
        if repository.is_shallow() {
            return Some("the history before its parents (it is a shallow clone)".to_owned());
        }
    }
    let (mut seen, mut entries): (BTreeSet<Oid>, usize) = (BTreeSet::new(), 0);
    while let Some(id) = trees.pop() {
        if !seen.insert(id) {
            continue;
        }
        if !odb.exists(id) {
            return Some(format!("folder {id}"));
        }
        let Ok(tree) = repository.find_tree(id) else { continue };
        for entry in &tree {
            entries += 1;
            if entries > ENTRIES {
                return None;
            }
            match entry.kind() {
                Some(ObjectType::Tree) => trees.push(entry.id()),
                Some(ObjectType::Blob) if seen.insert(entry.id()) && !odb.exists(entry.id()) => {
                    return Some(format!("file {}", entry.id()));
                }
                _ => {}
            }
        }
    }
    None
}
