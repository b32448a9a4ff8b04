//! A history of signed commits, each of which may break a rule.

use std::collections::BTreeMap;
use std::sync::Mutex;

use git2::{Oid, Repository, Signature, Time};
use hab_keys::chain::{self, VerifiedChain};
use hab_keys::{Chain, ChainObserver, Policy, Refusal};
use sequoia_openpgp::Cert;
use sha2::{Digest as _, Sha512};

use crate::world::{Court, cert, court_of, detached};

pub type Files = BTreeMap<&'static str, &'static str>;

pub struct History {
    pub _folder: tempfile::TempDir,
    pub git: Repository,
    pub key: Cert,
    pub root: Oid,
}

/// How a commit is made, beside its files.
#[derive(Clone, Copy)]
pub struct How {
    pub signed: bool,
    pub hash: Hash,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Hash {
    Right,
    Wrong,
    None,
}

pub const WELL: How = How { signed: true, hash: Hash::Right };

pub fn files(more: &[(&'static str, &'static str)]) -> Files {
    let base = [
        ("README", "a\nb\nc\nd\n"),
        ("src/a.c", "int a;\n"),
        ("src.c", "1\n2\n3\n4\n5\n6\n7\n8\n"),
        ("src/b/c.c", ""),
    ];
    base.into_iter().chain(more.iter().copied()).collect()
}

impl History {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let git = Repository::init_bare(folder.path()).unwrap();
        let mut this = Self { _folder: folder, git, key: cert("maintainer"), root: Oid::ZERO_SHA1 };
        this.root = this.commit(&files(&[]), &[], How { signed: false, hash: Hash::None });
        this
    }

    /// The definition, written down a second time: all paths sorted, whole.
    pub fn sha512(files: &Files) -> String {
        let mut lines: Vec<_> =
            files.iter().map(|(path, text)| (path.as_bytes(), hex::encode(Sha512::digest(text)))).collect();
        lines.sort();
        let mut all = Sha512::new();
        for (path, hash) in lines {
            all.update(hash.as_bytes());
            all.update(b"  ");
            all.update(path);
            all.update(b"\n");
        }
        hex::encode(all.finalize())
    }

    pub fn commit(&self, files: &Files, parents: &[Oid], how: How) -> Oid {
        let who = Signature::new("n", "e@x.invalid", &Time::new(1_700_000_000, 0)).unwrap();
        let mut update = git2::build::TreeUpdateBuilder::new();
        for (path, text) in files {
            update.upsert(*path, self.git.blob(text.as_bytes()).unwrap(), git2::FileMode::Blob);
        }
        let empty = self.git.find_tree(self.git.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let tree = self.git.find_tree(update.create_updated(&self.git, &empty).unwrap()).unwrap();
        let hash = match how.hash {
            Hash::Right => format!("\nTree-SHA512: {}\n", Self::sha512(files)),
            Hash::Wrong => format!("\nTree-SHA512: {}\n", "ab".repeat(64)),
            Hash::None => String::new(),
        };
        let parents: Vec<_> = parents.iter().map(|id| self.git.find_commit(*id).unwrap()).collect();
        let parents: Vec<_> = parents.iter().collect();
        let message = format!("Merge something\n{hash}");
        let buffer = self.git.commit_create_buffer(&who, &who, &message, &tree, &parents).unwrap();
        let text = std::str::from_utf8(&buffer).unwrap();
        if !how.signed {
            return self.git.odb().unwrap().write(git2::ObjectType::Commit, &buffer).unwrap();
        }
        let signature = String::from_utf8(detached(&self.key, &buffer)).unwrap();
        self.git.commit_signed(text, signature.trim_end(), None).unwrap()
    }

    /// A pull request with `change` on top of `base`, merged into `tip`.
    pub fn merge(&self, tip: Oid, base: (Oid, &Files), change: &Files, merged: &Files, how: How) -> Oid {
        assert_ne!(base.1, change);
        let branch = self.commit(change, &[base.0], How { signed: false, hash: Hash::None });
        self.commit(merged, &[tip, branch], how)
    }

    /// Root and two clean merges.
    pub fn clean(&self) -> Oid {
        let base = files(&[]);
        let one = files(&[("one", "1\n")]);
        let first = self.merge(self.root, (self.root, &base), &one, &one, WELL);
        let two = files(&[("two", "2\n")]);
        self.merge(first, (self.root, &base), &two, &files(&[("one", "1\n"), ("two", "2\n")]), WELL)
    }

    pub fn court(&self, more: &str) -> Court {
        let text = format!(
            "name = \"test\"\n[require.history]\nkind = \"commit-chain\"\nroot = \"{}\"\ntree-sha512 = true\n{more}\n\
             [[key]]\nfingerprint = \"{}\"\nname = \"maintainer\"\nreason = \"r\"\n",
            self.root,
            self.key.fingerprint()
        );
        court_of(Policy::parse("test", &text).unwrap(), &[&self.key])
    }

    pub fn verify(&self, tip: Oid) -> Result<VerifiedChain, Refusal> {
        self.verify_by(&self.court(""), tip, None, &Seen::default())
    }

    pub fn verify_by(
        &self,
        court: &Court,
        tip: Oid,
        verified: Option<&str>,
        seen: &Seen,
    ) -> Result<VerifiedChain, Refusal> {
        let tip = tip.to_string();
        let chain =
            Chain { project: "p", repository: self.git.path(), tip: &tip, verified, first_failure: true };
        chain::verify(chain, &court.judge(), seen)
    }

    pub fn allow(&self, commit: Oid, rule: &str) -> Court {
        self.court(&format!(
            "[[require.history.allow]]\ncommit = \"{commit}\"\nrule = \"{rule}\"\nreason = \"r\"\ndate = \
             \"2026-01-01\"\n"
        ))
    }
}

#[derive(Default)]
pub struct Seen {
    pub told: Mutex<Vec<(usize, usize, String)>>,
    pub stop: bool,
}

impl ChainObserver for Seen {
    fn looked_at(&self, done: usize, total: usize, good: Option<&str>) {
        self.told.lock().unwrap().push((done, total, good.unwrap_or_default().to_owned()));
    }
    fn cancelled(&self) -> bool {
        self.stop
    }
}
