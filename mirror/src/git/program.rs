//! What git is asked; `run` is how.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use git2::Oid;
use hab_oci::shown_bytes;

use super::remote::Remote;
use super::run::{Run, failed};
use super::url::Allow;
use super::{Bounds, is_ref_name};
use crate::{MirrorError, Observer};

/// One project's git, told what an upstream may cost.
pub(super) struct Git<'a> {
    pub project: &'a str,
    pub allow: Allow,
    pub bounds: Bounds,
    /// Checks of fsck that this project's history does not pass (git-config(1), `fsck.<msg-id>`).
    pub tolerate: &'a [String],
    pub observer: &'a dyn Observer,
}

/// An instruction to move a ref.
#[derive(Clone, Debug)]
pub(super) struct RefUpdate {
    pub name: String,
    pub new: Oid,
    /// What it must name before; all zeros: it must not exist; `None`: whatever it names.
    pub old: Option<Oid>,
}

impl RefUpdate {
    /// Keeps another value of a ref under `refs/history/`.
    pub(super) fn beside(reference: &str, id: Oid) -> Self {
        let name = format!("{}/{id}", reference.replacen("refs/", "refs/history/", 1));
        Self { name, new: id, old: None }
    }
}

impl Git<'_> {
    /// The refs below refs/heads/ and refs/tags/, or all of them, that an upstream says it has; names that no ref may
    /// have are left out and told.
    pub(super) fn ls_remote(&self, remote: &Remote, all: bool) -> Result<BTreeMap<String, Oid>, MirrorError> {
        let mut command = self.brief();
        remote.settle(&mut command);
        command.args(["ls-remote", "--refs", "--quiet"]);
        if !all {
            // The protocol's second version then sends no others.
            command.args(["--heads", "--tags"]);
        }
        command.arg("--").arg(remote.address());
        let run = Run { wall: self.bounds.answer, ..Run::default() };
        let text = self.done("ls-remote", remote, command, &run)?;
        let mut refs = BTreeMap::new();
        let mut odd = Few::new(self.observer, self.project);
        for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            // A name that is not UTF-8 could not be asked for by what it was read as.
            let parsed = std::str::from_utf8(line).ok().and_then(|line| line.split_once('\t'));
            let parsed = parsed.and_then(|(id, name)| Some((Oid::from_str(id).ok()?, name)));
            match parsed {
                Some((id, name)) if is_ref_name(name) => {
                    refs.insert(name.to_owned(), id);
                }
                _ => odd.tell(&format!(
                    "upstream has a ref {:?} that is not mirrored: no ref may be named so",
                    shown_bytes(line)
                )),
            }
            if refs.len() > self.bounds.refs {
                let stderr = format!("it has more than {} refs", self.bounds.refs);
                return Err(failed("ls-remote", remote, &stderr));
            }
        }
        Ok(refs)
    }

    /// The branch that an upstream's HEAD names, if it says so.
    pub(super) fn head(&self, remote: &Remote) -> Option<String> {
        let mut command = self.brief();
        remote.settle(&mut command);
        command.args(["ls-remote", "--symref", "--quiet", "--"]).arg(remote.address()).arg("HEAD");
        let run = Run { wall: self.bounds.answer, ..Run::default() };
        let text = self.done("ls-remote", remote, command, &run).ok()?;
        let line = text.split(|b| *b == b'\n').next()?;
        let name = std::str::from_utf8(line).ok()?.strip_prefix("ref: ")?.strip_suffix("\tHEAD")?;
        is_ref_name(name).then(|| name.to_owned())
    }

    /// Clones branches and tags into `to`, which must not exist: for a first fetch, whose pack can be checked for
    /// completeness while it is indexed.
    /// Other refs come with it by `more`, patterns of git's own kind.
    pub(super) fn clone(&self, remote: &Remote, more: &[String], to: &Path) -> Result<(), MirrorError> {
        let mut command = self.command();
        remote.settle(&mut command);
        // A path would otherwise be linked file by file, unchecked.
        command.args(["clone", "--bare", "--no-local", "--template=", "--progress"]);
        for pattern in more {
            command.arg("--config").arg(format!("remote.origin.fetch=+{pattern}:{pattern}"));
        }
        command.arg("--").arg(remote.address()).arg(to);
        let run = Run { wall: self.bounds.fetch, grows: Some(to.join("objects/pack")), ..Run::default() };
        self.done("clone", remote, command, &run).map(drop)
    }

    /// Fetches the objects with these ids, and what they reach, into `repository`; no ref is written. What lies in
    /// `alternates` is not sent again. By ids and not by names, because for each name git would look at every ref of the
    /// upstream, and the upstream at every name.
    pub(super) fn fetch(
        &self,
        remote: &Remote,
        ids: &BTreeSet<Oid>,
        repository: &Path,
        alternates: &Path,
    ) -> Result<(), MirrorError> {
        let mut command = self.command();
        remote.settle(&mut command);
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
        self.done("fetch", remote, command, &run).map(drop)
    }

    /// The size of the largest object in `repository` alone.
    pub(super) fn largest(&self, remote: &Remote, repository: &Path) -> Result<u64, MirrorError> {
        let mut command = self.command();
        command.arg("--git-dir").arg(repository).args(["cat-file", "--batch-all-objects", "--unordered"]);
        command.args(["--buffer", "--batch-check=%(objectsize)"]);
        let run = Run { wall: self.bounds.fetch, ..Run::default() };
        let sizes = self.done("cat-file", remote, command, &run)?;
        let size = |line: &[u8]| std::str::from_utf8(line).ok()?.parse::<u64>().ok();
        Ok(sizes.split(|b| *b == b'\n').filter_map(size).max().unwrap_or(0))
    }

    /// Moves refs of a repository here, all of them or none (git-update-ref(1)); of two instructions for one ref the last
    /// counts. Not to be cut off: what it holds locks on would stay locked.
    pub(super) fn update_refs(&self, repository: &Path, updates: &[RefUpdate]) -> Result<(), MirrorError> {
        let updates: BTreeMap<&str, &RefUpdate> = updates.iter().map(|u| (u.name.as_str(), u)).collect();
        if updates.is_empty() {
            return Ok(());
        }
        // Without `commit` at its end nothing of it is done, so that half of a text does nothing.
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

    /// Anything else on a repository here.
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

    /// The same, with something to read.
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

/// Sentences of one kind, of which an upstream may cause as many as it wants: the first ones are told, and how many more
/// there are.
pub(super) struct Few<'a> {
    observer: &'a dyn Observer,
    project: &'a str,
    said: usize,
}

impl<'a> Few<'a> {
    /// How many are told.
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

/// Each on a line of its own.
pub(super) fn lines<T: std::fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for one in all {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{one}");
    }
    text
}
