//! The git commands that a mirror uses; `run` executes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use git2::Oid;
use hab_oci::shown;

use super::blame::{Cause, failed, says_shallow};
use super::remote::Remote;
use super::run::Run;
use super::url::Allow;
use super::{Bounds, is_ref_name};
use crate::{MirrorError, Observer};

/// Runs git for one project, within limits.
pub(super) struct Git<'a> {
    pub project: &'a str,
    pub allow: Allow,
    pub bounds: Bounds,
    /// fsck checks that this project's history is known to fail (git-config(1), `fsck.<msg-id>`).
    pub tolerate: &'a [String],
    pub observer: &'a dyn Observer,
}

/// An instruction to move, create or remove a ref.
#[derive(Clone, Debug)]
pub(super) struct RefUpdate {
    pub name: String,
    pub new: Oid,
    /// The value that it must have before. All zeros: it must not exist; `None`: any value.
    pub old: Option<Oid>,
}

impl RefUpdate {
    /// Removes a ref that names `id`.
    pub(super) fn remove(reference: &str, id: Oid) -> Self {
        Self { name: reference.to_owned(), new: Oid::ZERO_SHA1, old: Some(id) }
    }
}

/// The refs and the HEAD that an upstream lists.
pub(super) struct Listed {
    pub refs: BTreeMap<String, Oid>,
    pub head: Option<Head>,
}

/// An upstream's HEAD, if it is listed: git does not list one that names a missing branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// HEAD names this branch.
    Branch(String),
    /// HEAD is this commit, and names no branch.
    Detached(Oid),
}

impl Git<'_> {
    /// Lists an upstream's `wanted` refs and its HEAD. Reports and leaves out invalid ref names. Lists all of its refs,
    /// because git sends the branch that HEAD names only with them.
    pub(super) fn ls_remote(
        &self,
        remote: &Remote,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Listed, MirrorError> {
        let mut command = self.brief();
        remote.configure(&mut command);
        command.args(["ls-remote", "--symref", "--quiet", "--"]).arg(remote.address());
        let run = Run { wall: self.bounds.answer, ..Run::default() };
        let (text, _) = self.done("ls-remote", remote, command, &run)?;
        let (mut refs, mut head) = (BTreeMap::new(), None);
        let mut odd = Few::new(self.observer, self.project);
        for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let lossy = String::from_utf8_lossy(line);
            let Some((value, name)) = lossy.split_once('\t') else { continue };
            if let Some(target) = value.strip_prefix("ref: ") {
                if name == "HEAD" && is_ref_name(target) {
                    head = Some(Head::Branch(target.to_owned()));
                }
                continue;
            }
            if value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MirrorError::ObjectFormat { url: remote.name().to_owned() });
            }
            // The object that an annotated tag points at; git fetches the tag itself.
            if name.ends_with("^{}") {
                continue;
            }
            match Oid::from_str(value) {
                Ok(id) if name == "HEAD" => head = head.or(Some(Head::Detached(id))),
                _ if !wanted(name) => {}
                // A name that is not UTF-8 has been changed by decoding, so git could not be asked for it.
                Ok(id) if is_ref_name(name) && std::str::from_utf8(line).is_ok() => {
                    refs.insert(name.to_owned(), id);
                }
                _ => odd.tell(&format!(
                    "upstream has a ref {:?} that is not mirrored: it is not a valid ref name",
                    shown(name)
                )),
            }
            if refs.len() > self.bounds.refs {
                let cause = Cause::NotTaken(format!("it has more than {} refs", self.bounds.refs));
                return Err(failed("ls-remote", remote, &cause));
            }
        }
        Ok(Listed { refs, head })
    }

    /// Clones branches and tags into `to`, which must not exist. This is for a first fetch: git checks a clone's pack
    /// for completeness while it indexes it. `more` has git's refspec patterns for other refs.
    pub(super) fn clone(&self, remote: &Remote, more: &[String], to: &Path) -> Result<(), MirrorError> {
        let mut command = self.command();
        remote.configure(&mut command);
        // Without `--no-local`, git would link the files of a local repository unchecked.
        command.args(["clone", "--bare", "--no-local", "--template=", "--progress"]);
        for pattern in more {
            command.arg("--config").arg(format!("remote.origin.fetch=+{pattern}:{pattern}"));
        }
        command.arg("--").arg(remote.address()).arg(to);
        let run = Run { wall: self.bounds.fetch, grows: Some(to.join("objects/pack")), ..Run::default() };
        self.done("clone", remote, command, &run).map(drop)
    }

    /// Fetches the objects with these ids, and everything that they reach, into `repository`; writes no ref. Objects in
    /// `alternates` are not sent again. Asks by id and not by name: for each name, git would search all refs of the
    /// upstream, and the upstream all names.
    pub(super) fn fetch(
        &self,
        remote: &Remote,
        ids: &BTreeSet<Oid>,
        repository: &Path,
        alternates: &Path,
    ) -> Result<(), MirrorError> {
        let mut command = self.command();
        remote.configure(&mut command);
        command
            .arg("--git-dir")
            .arg(repository)
            .args(["fetch", "--no-auto-maintenance", "--no-tags", "--no-write-fetch-head", "--progress"])
            .args(["--no-recurse-submodules", "--stdin", "--"])
            .arg(remote.address());
        let run = Run {
            stdin: Some(lines(ids)),
            alternates: Some(alternates),
            wall: self.bounds.fetch,
            grows: Some(repository.join("objects/pack")),
            steady: false,
        };
        let (_, said) = self.done("fetch", remote, command, &run)?;
        // git succeeds here, and has written a commit whose parents are missing.
        if says_shallow(&said) {
            let cause = Cause::NotTaken(format!("its history is cut off (shallow): {said}"));
            return Err(failed("fetch", remote, &cause));
        }
        Ok(())
    }

    /// The size of the largest object in `repository`, without its alternates.
    pub(super) fn largest(&self, remote: &Remote, repository: &Path) -> Result<u64, MirrorError> {
        let mut command = self.command();
        command.arg("--git-dir").arg(repository).args(["cat-file", "--batch-all-objects", "--unordered"]);
        command.args(["--buffer", "--batch-check=%(objectsize)"]);
        let run = Run { wall: self.bounds.fetch, ..Run::default() };
        let (sizes, _) = self.done("cat-file", remote, command, &run)?;
        let size = |line: &[u8]| std::str::from_utf8(line).ok()?.parse::<u64>().ok();
        Ok(sizes.split(|b| *b == b'\n').filter_map(size).max().unwrap_or(0))
    }

    /// Moves refs of a repository here, all of them or none (git-update-ref(1)); the last of two updates of one ref
    /// counts. Must not be cancelled, because its locks would remain.
    pub(super) fn update_refs(&self, repository: &Path, updates: &[RefUpdate]) -> Result<(), MirrorError> {
        let updates: BTreeMap<&str, &RefUpdate> = updates.iter().map(|u| (u.name.as_str(), u)).collect();
        if updates.is_empty() {
            return Ok(());
        }
        // git does nothing without the final `commit`, so half of this text has no effect.
        let mut text = String::from("start\0");
        for RefUpdate { name, new, old } in updates.values() {
            let old = old.as_ref().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("update {name}\0{new}\0{old}\0"));
        }
        text.push_str("prepare\0commit\0");
        let mut command = self.command();
        command.arg("--git-dir").arg(repository).args(["update-ref", "--stdin", "-z"]);
        let run = Run { stdin: Some(text), wall: self.bounds.fetch, steady: true, ..Run::default() };
        self.done_here("update-ref", repository, command, &run)
    }

    /// Runs any other git command on a repository here.
    pub(super) fn here(
        &self,
        action: &'static str,
        repository: &Path,
        arguments: &[&std::ffi::OsStr],
        alternates: Option<&Path>,
    ) -> Result<(), MirrorError> {
        let mut command = self.command();
        command.arg("--git-dir").arg(repository).arg(action).args(arguments);
        let steady = action == "pack-refs";
        let run = Run { alternates, wall: self.bounds.fetch, steady, ..Run::default() };
        self.done_here(action, repository, command, &run)
    }

    /// Like [`Git::here`], with text for stdin.
    pub(super) fn told(
        &self,
        action: &'static str,
        repository: &Path,
        arguments: &[&std::ffi::OsStr],
        stdin: String,
        alternates: Option<&Path>,
    ) -> Result<(), MirrorError> {
        let mut command = self.command();
        command.arg("--git-dir").arg(repository).arg(action).args(arguments);
        let run = Run { stdin: Some(stdin), alternates, wall: self.bounds.fetch, ..Run::default() };
        self.done_here(action, repository, command, &run)
    }
}

/// Reports sentences of one kind, of which an upstream can cause any number: the first ones, and how many more there
/// are.
pub(super) struct Few<'a> {
    observer: &'a dyn Observer,
    project: &'a str,
    said: usize,
}

impl<'a> Few<'a> {
    /// The most sentences that are reported.
    const MOST: usize = 20;

    pub(super) fn new(observer: &'a dyn Observer, project: &'a str) -> Self {
        Self { observer, project, said: 0 }
    }

    pub(super) fn tell(&mut self, sentence: &str) {
        self.said += 1;
        if self.said <= Self::MOST {
            self.observer.note(&format!("{}: {sentence}", self.project));
        }
    }
}

impl Drop for Few<'_> {
    fn drop(&mut self) {
        if self.said > Self::MOST {
            self.observer.note(&format!("{}: and {} more like these", self.project, self.said - Self::MOST));
        }
    }
}

/// A text with each item on a line of its own.
pub(super) fn lines<T: std::fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for one in all {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{one}");
    }
    text
}
