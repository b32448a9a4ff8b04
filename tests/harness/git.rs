//! A git upstream with signed tags.

use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid, Repository, Signature, Time};
use sequoia_openpgp::Cert;

use super::signing;

pub struct Upstream {
    path: PathBuf,
    repository: Repository,
}

impl Upstream {
    pub fn new(path: &Path) -> Self {
        let repository = Repository::init_bare(path).unwrap();
        Self { path: path.to_owned(), repository }
    }

    /// Opens an existing repository.
    pub fn existing(path: &Path) -> Self {
        Self { path: path.to_owned(), repository: Repository::open(path).unwrap() }
    }

    pub fn url(&self) -> String {
        self.path.display().to_string()
    }

    /// Adds a commit to the main branch, with this text in the file `message`.
    pub fn commit(&self, message: &str) -> Oid {
        let repo = &self.repository;
        let blob = repo.blob(message.as_bytes()).unwrap();
        let mut builder = repo.treebuilder(None).unwrap();
        builder.insert("message", blob, 0o100_644).unwrap();
        let tree = repo.find_tree(builder.write().unwrap()).unwrap();
        let who = Signature::new("n", "e@x.invalid", &Time::new(1_600_000_000, 0)).unwrap();
        let parent = repo.find_reference("refs/heads/main").ok().map(|r| r.peel_to_commit().unwrap());
        let parents: Vec<_> = parent.iter().collect();
        repo.commit(Some("refs/heads/main"), &who, &who, message, &tree, &parents).unwrap()
    }

    /// Moves the main branch to `commit`, wherever it was.
    pub fn rewind(&self, commit: Oid) {
        self.repository.reference("refs/heads/main", commit, true, "test").unwrap();
    }

    /// Deletes a tag.
    pub fn delete_tag(&self, name: &str) {
        self.repository.find_reference(&format!("refs/tags/{name}")).unwrap().delete().unwrap();
    }

    /// Points a tag at an existing object.
    pub fn point(&self, name: &str, id: &str) {
        let id = Oid::from_str(id).unwrap();
        self.repository.reference(&format!("refs/tags/{name}"), id, true, "test").unwrap();
    }

    /// Points the tag `name` directly at a commit.
    pub fn lightweight_tag(&self, name: &str, commit: Oid) {
        self.repository.reference(&format!("refs/tags/{name}"), commit, true, "test").unwrap();
    }

    /// Adds a commit to the main branch that `key` signs.
    pub fn signed_commit(&self, message: &str, key: &Cert) -> Oid {
        let repo = &self.repository;
        let parent = repo.find_reference("refs/heads/main").unwrap().peel_to_commit().unwrap();
        let who = Signature::new("n", "e@x.invalid", &Time::new(1_600_000_000, 0)).unwrap();
        let buffer =
            repo.commit_create_buffer(&who, &who, message, &parent.tree().unwrap(), &[&parent]).unwrap();
        let signature = String::from_utf8(signing::detached(key, &buffer)).unwrap();
        let text = std::str::from_utf8(&buffer).unwrap();
        let id = repo.commit_signed(text, signature.trim_end(), None).unwrap();
        repo.reference("refs/heads/main", id, true, "test").unwrap();
        id
    }

    /// Points `name` at an annotated tag of `commit`, signed if there is a key.
    pub fn tag(&self, name: &str, commit: Oid, key: Option<&Cert>) {
        let mut object = format!(
            "object {commit}\ntype commit\ntag {name}\ntagger n <e@x.invalid> 1600000001 +0000\n\nRelease {name}\n"
        )
        .into_bytes();
        if let Some(key) = key {
            let signature = signing::detached(key, &object);
            object.extend_from_slice(&signature);
        }
        let id = self.repository.odb().unwrap().write(ObjectType::Tag, &object).unwrap();
        self.repository.reference(&format!("refs/tags/{name}"), id, true, "test").unwrap();
    }
}
