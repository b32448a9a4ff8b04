//! Reads the files below one folder of a commit into memory.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{ErrorCode, ObjectType, Oid, Tree};

use super::GitMirror;
use crate::MirrorError;

/// How deep folders may nest.
const DEPTH: usize = 32;
/// The most files and folders that are read.
const ENTRIES: usize = 10_000;
/// The most bytes that all files together may have.
const BYTES: usize = 32 << 20;

/// Files by their path relative to a folder.
pub type Files = BTreeMap<String, Vec<u8>>;

impl GitMirror {
    /// The files below `folder` of a commit, by their path relative to it, without links and submodules.
    /// **Unverified**: the files are only as trustworthy as the commit.
    pub fn files(&self, commit_id: &str, folder: &str) -> Result<Files, MirrorError> {
        let tree = Oid::from_str(commit_id)
            .and_then(|id| self.repository.find_commit(id))
            .and_then(|commit| commit.tree())
            .map_err(self.broken())?;
        let unknown = || MirrorError::Unknown {
            what: format!("folder {folder}"),
            upstream: format!("commit {commit_id} of {}", self.project),
        };
        let entry = tree.get_path(Path::new(folder)).map_err(|e| match e.code() {
            ErrorCode::NotFound => unknown(),
            _ => self.broken()(e),
        })?;
        let object = entry.to_object(&self.repository).map_err(self.broken())?;
        let tree = object.as_tree().ok_or_else(unknown)?;
        let mut taken = Taken { files: Files::new(), entries: ENTRIES, bytes: BYTES };
        self.take(tree, "", DEPTH, &mut taken)?;
        Ok(taken.files)
    }

    fn take(
        &self,
        tree: &Tree<'_>,
        prefix: &str,
        depth: usize,
        taken: &mut Taken,
    ) -> Result<(), MirrorError> {
        let odb = self.repository.odb().map_err(self.broken())?;
        for entry in tree {
            let path = |name: &str| format!("{prefix}{name}");
            let too_large = |what: &str| MirrorError::Malformed {
                what: format!("folder {prefix:?} of {}", self.project),
                expected: "a folder of small files",
                detail: what.to_owned(),
            };
            taken.entries = taken.entries.checked_sub(1).ok_or_else(|| too_large("it has too many files"))?;
            // Nobody can look up a file whose name is not UTF-8.
            let Ok(name) = entry.name() else { continue };
            match (entry.kind(), entry.filemode()) {
                (Some(ObjectType::Tree), _) => {
                    let depth = depth.checked_sub(1).ok_or_else(|| too_large("its folders lie too deep"))?;
                    let tree = self.repository.find_tree(entry.id()).map_err(self.broken())?;
                    self.take(&tree, &format!("{}/", path(name)), depth, taken)?;
                }
                (Some(ObjectType::Blob), mode) if mode != 0o120_000 => {
                    // Ask for the size first: a pack of megabytes can hold a file of gigabytes.
                    let (size, _) = odb.read_header(entry.id()).map_err(self.broken())?;
                    taken.bytes =
                        taken.bytes.checked_sub(size).ok_or_else(|| too_large("it has too many bytes"))?;
                    let blob = odb.read(entry.id()).map_err(self.broken())?;
                    taken.files.insert(path(name), blob.data().to_vec());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The files read so far, and how many more may be read.
struct Taken {
    files: Files,
    entries: usize,
    bytes: usize,
}

#[cfg(test)]
mod tests {
    use git2::{Repository, Signature, Time};

    use super::*;

    /// Makes a commit with these files in `depends/packages`.
    fn commit(at: &Path, files: &[(&str, &[u8], i32)]) -> String {
        let repo = Repository::init_bare(at).unwrap();
        let mut sub = repo.treebuilder(None).unwrap();
        for (name, bytes, mode) in files {
            sub.insert(name, repo.blob(bytes).unwrap(), *mode).unwrap();
        }
        let mut folder = sub.write().unwrap();
        for name in ["packages", "depends"] {
            let mut above = repo.treebuilder(None).unwrap();
            above.insert(name, folder, 0o040_000).unwrap();
            folder = above.write().unwrap();
        }
        let who = Signature::new("n", "e@x.invalid", &Time::new(1_600_000_000, 0)).unwrap();
        let tree = repo.find_tree(folder).unwrap();
        repo.commit(None, &who, &who, "x", &tree, &[]).unwrap().to_string()
    }

    #[test]
    fn files_are_found_by_their_path_and_links_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let id = commit(dir.path(), &[("a.mk", b"a", 0o100_644), ("link", b"a.mk", 0o120_000)]);
        let mirror = GitMirror::existing(dir.path()).unwrap();
        let files = mirror.files(&id, "depends").unwrap();
        assert_eq!(files, Files::from([("packages/a.mk".to_owned(), b"a".to_vec())]));
        for missing in ["dep", "depends/packages/a.mk", "../x"] {
            assert!(mirror.files(&id, missing).is_err(), "{missing}");
        }
    }

    #[test]
    fn a_folder_of_more_bytes_than_fit_is_refused_before_they_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let id = commit(dir.path(), &[("large", &vec![0; BYTES + 1], 0o100_644)]);
        let error = GitMirror::existing(dir.path()).unwrap().files(&id, "depends").unwrap_err();
        assert!(error.to_string().contains("too many bytes"), "{error}");
    }
}
