//! Computes the SHA-512 of a tree that Bitcoin Core's merge script writes into every merge: the SHA-512 of the lines
//! `sha512(content)`, two spaces, path, for every file in the order of full paths.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use git2::{ObjectType, Oid, Repository};
use sha2::{Digest as _, Sha512};

use crate::object::{Commit, DEPTH, admit, tree_entries};

/// The largest file that is hashed, in bytes.
const FILE_LIMIT: usize = 1 << 30;
/// The most files in one folder; all of Bitcoin Core's tree has 2,700.
const FILES_LIMIT: usize = 1_000_000;
/// After this many trees, folders that none of them used are forgotten.
const GENERATION: u64 = 64;

/// The SHA-512 of file contents, by git's id, shared by all workers: most files stay the same from commit to commit.
#[derive(Default)]
pub(super) struct Blobs {
    known: Mutex<HashMap<Oid, [u8; 64]>>,
}

impl Blobs {
    fn sha512(&self, repository: &Repository, id: Oid) -> Result<[u8; 64], String> {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(*known);
        }
        let odb = repository.odb().map_err(|e| e.message().to_owned())?;
        let (size, _) = odb.read_header(id).map_err(|e| e.message().to_owned())?;
        if size > FILE_LIMIT {
            return Err(format!("file {id} has {size} bytes, more than {FILE_LIMIT}"));
        }
        let blob = odb.read(id).map_err(|e| e.message().to_owned())?;
        let digest: [u8; 64] = Sha512::digest(blob.data()).into();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id, digest);
        Ok(digest)
    }
}

/// The trees of one worker: an unchanged folder has the same lines as in the commit before.
pub(super) struct Trees<'a> {
    blobs: &'a Blobs,
    /// The lines of folders, by the folder's id and path.
    folders: HashMap<(Oid, Vec<u8>), Folder>,
    turn: u64,
}

struct Folder {
    lines: Rc<Vec<u8>>,
    /// The turn in which it was last used.
    used: u64,
}

impl<'a> Trees<'a> {
    pub fn new(blobs: &'a Blobs) -> Self {
        Self { blobs, folders: HashMap::new(), turn: 0 }
    }

    /// Checks that the commit's message has its tree's SHA-512, on a line of its own.
    pub fn check(&mut self, repository: &Repository, commit: &Commit<'_>) -> Result<(), String> {
        self.turn += 1;
        if self.turn.is_multiple_of(GENERATION) {
            let oldest = self.turn - GENERATION;
            self.folders.retain(|_, folder| folder.used > oldest);
        }
        let lines = self.lines(repository, commit.tree, &[])?;
        let wanted = format!("Tree-SHA512: {}", hex::encode(Sha512::digest(lines.as_slice())));
        let named = |line: &[u8]| line.strip_prefix(b"Tree-SHA512: ").is_some();
        let mut all = commit.message.split(|b| *b == b'\n');
        if all.clone().any(|line| line == wanted.as_bytes()) {
            return Ok(());
        }
        Err(if all.any(named) {
            format!("its tree is not the one that its message names: {wanted}")
        } else {
            "its message names no Tree-SHA512".to_owned()
        })
    }

    /// The lines of the folder `tree` at `prefix`. git sorts a folder as if its name ended in a slash, so git's order
    /// is the order of full paths.
    fn lines(&mut self, repository: &Repository, tree: Oid, prefix: &[u8]) -> Result<Rc<Vec<u8>>, String> {
        let key = (tree, prefix.to_vec());
        if let Some(known) = self.folders.get_mut(&key) {
            known.used = self.turn;
            return Ok(Rc::clone(&known.lines));
        }
        if prefix.split(|b| *b == b'/').count() > DEPTH {
            return Err(format!("its folders lie more than {DEPTH} deep"));
        }
        let admitted = repository.odb().and_then(|odb| admit(&odb, tree));
        let folder =
            admitted.and_then(|()| repository.find_tree(tree)).map_err(|e| e.message().to_owned())?;
        if folder.len() > FILES_LIMIT {
            return Err(format!("a folder has {} files, more than {FILES_LIMIT}", folder.len()));
        }
        if tree_entries(&folder).is_none() {
            return Err(format!(
                "its folder {:?} is not sorted, or has a name twice",
                String::from_utf8_lossy(prefix)
            ));
        }
        let mut lines = Vec::new();
        for entry in &folder {
            let path = [prefix, entry.name_bytes()].concat();
            match entry.kind() {
                Some(ObjectType::Blob) => {
                    let digest = self.blobs.sha512(repository, entry.id())?;
                    lines.extend_from_slice(hex::encode(digest).as_bytes());
                    lines.extend_from_slice(b"  ");
                    lines.extend_from_slice(&path);
                    lines.push(b'\n');
                }
                Some(ObjectType::Tree) => {
                    let inner = self.lines(repository, entry.id(), &[&path, b"/".as_slice()].concat())?;
                    lines.extend_from_slice(&inner);
                }
                _ => {
                    return Err(format!("{} is neither a file nor a folder", String::from_utf8_lossy(&path)));
                }
            }
        }
        let lines = Rc::new(lines);
        self.folders.insert(key, Folder { lines: Rc::clone(&lines), used: self.turn });
        Ok(lines)
    }
}
