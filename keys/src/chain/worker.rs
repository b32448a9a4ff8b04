//! One thread of a chain check: all checks of one commit at a time.

use git2::{ErrorCode, Oid, Repository};

use super::merge::Merger;
use super::missing;
use super::tree_sha512::Trees;
use super::{Bad, BadCommit, Context, GoodCommit};
use crate::judge::Signed;
use crate::object::{self, Commit};
use crate::policy::ChainCheck;
use crate::{Refusal, SignatureSeen};

pub(super) struct Worker<'a> {
    context: &'a Context<'a>,
    trees: Trees<'a>,
    /// Opened with the first commit, so that a repository that cannot be opened is that commit's error.
    opened: Option<(Repository, Merger)>,
    commits: u32,
}

/// After this many commits the repository is opened anew, to free the objects that merges made.
const FORGET: u32 = 256;

impl<'a> Worker<'a> {
    pub fn new(context: &'a Context<'a>) -> Self {
        Self { context, trees: Trees::new(&context.blobs), opened: None, commits: 0 }
    }

    /// Runs all checks of one commit.
    pub fn commit(&mut self, id: Oid) -> Result<GoodCommit, Bad> {
        self.commits += 1;
        if self.commits.is_multiple_of(FORGET) {
            self.opened = None;
        }
        let (repository, merger) = match &mut self.opened {
            Some(opened) => opened,
            empty => {
                let path = self.context.chain.repository;
                let broken = |source| Bad::Judgement(Refusal::Repository { path: path.to_owned(), source });
                let repository = Repository::open(path).map_err(broken)?;
                let merger = Merger::new(&repository).map_err(broken)?;
                empty.insert((repository, merger))
            }
        };
        let odb = repository.odb().map_err(|e| Bad::Commit(e.message().to_owned().into()))?;
        // libgit2 hashes the objects that it reads, so these bytes match the id.
        let read = object::admit(&odb, id).and_then(|()| odb.read(id));
        let bytes = read.map_err(|e| match e.code() {
            ErrorCode::NotFound => {
                Bad::Judgement(self.context.lacking(&format!("commit {id} is not in the repository")))
            }
            _ => Bad::Commit(e.message().to_owned().into()),
        })?;
        let commit = object::commit(bytes.data()).map_err(|why| Bad::Commit(why.into()))?;
        if commit.parents.len() > 2 {
            return Err(Bad::Commit("it merges more than two histories at once".to_owned().into()));
        }
        let mut allowed = Vec::new();
        let mut check = |check: ChainCheck, result: Result<(), BadCommit>| match result {
            Err(_) if self.context.allows(id, check) => {
                allowed.push(check);
                Ok(())
            }
            Err(_)
                if check != ChainCheck::Signature
                    && let Some(lacks) = missing::first(repository, &commit) =>
            {
                let detail = format!("commit {id} needs something that the repository lacks: {lacks}");
                Err(Bad::Judgement(self.context.lacking(&detail)))
            }
            other => other.map_err(Bad::Commit),
        };
        let (signatures, signed) = self.context.signed(id, &commit)?;
        check(ChainCheck::Signature, signed)?;
        let tree = self.context.rule.tree_sha512;
        if tree {
            check(ChainCheck::TreeSha512, self.trees.check(repository, &commit).map_err(BadCommit::from))?;
        }
        let merge = commit.parents.len() == 2;
        if let [ours, theirs] = commit.parents[..] {
            check(
                ChainCheck::Merge,
                merger.check(repository, ours, theirs, commit.tree).map_err(BadCommit::from),
            )?;
        }
        Ok(GoodCommit { id, merge, tree, signatures, allowed })
    }
}

impl Context<'_> {
    /// The commit's signatures, and whether one of them is enough.
    fn signed(
        &self,
        id: Oid,
        commit: &Commit<'_>,
    ) -> Result<(Vec<SignatureSeen>, Result<(), BadCommit>), Bad> {
        let Some(signature) = &commit.signature else {
            return Ok((Vec::new(), Err("it is not signed".to_owned().into())));
        };
        let what = format!("commit {id}");
        let seen = self.judge.detached(&what, Signed::Git, signature, &commit.payload);
        let seen = seen.map_err(|e| match e {
            Refusal::Unreadable { detail, .. } => {
                Bad::Commit(format!("its signature cannot be read: {detail}").into())
            }
            other => Bad::Judgement(other),
        })?;
        let enough = if self.judge.signers(&self.rule.signers, &seen).is_empty() {
            let words = self.judge.words(&self.rule.signers, &seen);
            let why = format!("no signature by a key that may sign it: {words}");
            Err(BadCommit { why, lacks_certificate: seen.iter().any(SignatureSeen::lacks_certificate) })
        } else {
            Ok(())
        };
        Ok((seen, enough))
    }

    fn allows(&self, id: Oid, check: ChainCheck) -> bool {
        let id = id.to_string();
        self.rule.allow.iter().any(|a| a.commit == id && a.rule == check)
    }

    fn lacking(&self, detail: &str) -> Refusal {
        super::lacking(self.what, detail)
    }
}
