//! Repeats a merge: its tree must be the result of merging its parents, so that nothing was slipped in.
//!
//! There are three ways, from cheap to exact. Most merges touch different files: comparing four trees entry by entry
//! shows that one side changed each entry. If both sides changed a file, libgit2 merges. If that gives another tree or
//! a conflict (it does not search for renames here), git itself decides, as in Bitcoin Core's own checker. The first
//! two accept only if every entry comes from one of the sides, which is the purpose of the check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use git2::{MergeOptions, ObjectType, Oid, Repository};

use crate::object::{DEPTH, TreeEntry, admit, tree_entries};

/// The longest time that git may take for one merge.
const LONGEST: Duration = Duration::from_mins(5);

pub(super) struct Merger {
    objects: PathBuf,
    /// Whether the repository has a commit-graph: a cache of ancestry that libgit2 trusts.
    graph: bool,
}

impl Merger {
    /// Prepares for merges in `repository` and writes nothing into it: objects that a merge makes stay in memory, until
    /// this opened repository is dropped.
    pub fn new(repository: &Repository) -> Result<Self, git2::Error> {
        repository.odb()?.add_new_mempack_backend(1000)?;
        let objects = repository.commondir().join("objects");
        let graph =
            ["info/commit-graph", "info/commit-graphs"].iter().any(|name| objects.join(name).exists());
        Ok(Self { objects, graph })
    }

    /// Checks that merging `theirs` into `ours` gives `tree`.
    pub fn check(&self, repository: &Repository, ours: Oid, theirs: Oid, tree: Oid) -> Result<(), String> {
        if !self.graph && by_entries(repository, ours, theirs, tree).unwrap_or(false) {
            return Ok(());
        }
        if !self.graph && by_libgit2(repository, ours, theirs).is_ok_and(|merged| merged == Some(tree)) {
            return Ok(());
        }
        match by_git(&self.objects, ours, theirs)? {
            Some(merged) if merged == tree.to_string() => Ok(()),
            Some(merged) => Err(format!("merging its parents gives tree {merged}, but it has {tree}")),
            None => Err("its parents do not merge without conflicts".to_owned()),
        }
    }
}

/// Whether every entry of `merged` is that of the side that changed it. `false` decides nothing.
fn by_entries(repository: &Repository, ours: Oid, theirs: Oid, merged: Oid) -> Result<bool, git2::Error> {
    let bases = repository.merge_bases(ours, theirs)?;
    // Crossing histories have several merge bases, and merging those is not this simple.
    let [base] = &bases[..] else { return Ok(false) };
    let tree = |commit| repository.find_commit(commit).map(|c| c.tree_id());
    entries(repository, [tree(*base)?, tree(ours)?, tree(theirs)?, merged], 0)
}

fn entries(
    repository: &Repository,
    [base, ours, theirs, merged]: [Oid; 4],
    depth: usize,
) -> Result<bool, git2::Error> {
    if let Some(expected) = pick(&base, &ours, &theirs)
        && *expected == merged
    {
        return Ok(true);
    }
    if depth > DEPTH {
        return Ok(false);
    }
    let mut trees = Vec::new();
    for id in [base, ours, theirs, merged] {
        admit(&repository.odb()?, id)?;
        let Some(entries) = tree_entries(&repository.find_tree(id)?) else { return Ok(false) };
        trees.push(entries);
    }
    let names: BTreeSet<&Vec<u8>> = trees.iter().flat_map(BTreeMap::keys).collect();
    for name in names {
        let [base, ours, theirs, merged] = [0, 1, 2, 3].map(|n: usize| trees[n].get(name).copied());
        if let Some(expected) = pick(&base, &ours, &theirs)
            && *expected == merged
        {
            continue;
        }
        let folder =
            |e: &Option<TreeEntry>| e.filter(|(_, kind, _)| *kind == ObjectType::Tree).map(|(id, ..)| id);
        let (Some(b), Some(o), Some(t), Some(m)) =
            (folder(&base), folder(&ours), folder(&theirs), folder(&merged))
        else {
            return Ok(false);
        };
        if !entries(repository, [b, o, t, m], depth + 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The result of a three-way merge: the value of the side that changed it.
fn pick<'a, T: PartialEq>(base: &T, ours: &'a T, theirs: &'a T) -> Option<&'a T> {
    if base == theirs || ours == theirs {
        Some(ours)
    } else if base == ours {
        Some(theirs)
    } else {
        None
    }
}

fn by_libgit2(repository: &Repository, ours: Oid, theirs: Oid) -> Result<Option<Oid>, git2::Error> {
    let (ours, theirs) = (repository.find_commit(ours)?, repository.find_commit(theirs)?);
    let mut options = MergeOptions::new();
    options.find_renames(false);
    let mut index = repository.merge_commits(&ours, &theirs, Some(&options))?;
    if index.has_conflicts() { Ok(None) } else { index.write_tree_to(repository).map(Some) }
}

/// Runs `git merge-tree` (2.38 or newer) over `objects`, in an empty repository of its own, so that the settings and
/// caches of the judged repository do not matter. `None` means conflicts.
fn by_git(objects: &Path, ours: Oid, theirs: Oid) -> Result<Option<String>, String> {
    let folder = tempfile::tempdir().map_err(|e| format!("no folder to merge in: {e}"))?;
    Repository::init_bare(folder.path()).map_err(|e| e.message().to_owned())?;
    // Write the output to files: a report of conflicts has no limit.
    let place = |name: &str| folder.path().join(name);
    let file = |name: &str| File::create(place(name)).map_err(|e| format!("no file to merge into: {e}"));
    let mut child = Command::new("git")
        .arg("--git-dir")
        .arg(folder.path())
        .args(["-c", "core.commitGraph=false", "merge-tree", "--write-tree", "--no-messages"])
        .args([ours.to_string(), theirs.to_string()])
        .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(file("said")?)
        .stderr(file("complained")?)
        .spawn()
        .map_err(|e| format!("cannot run git to repeat its merge: {e}"))?;
    let status = wait(&mut child)?;
    let first_line = |name: &str| -> String {
        let mut line = String::new();
        let reader = File::open(place(name)).map(|file| BufReader::new(file.take(1000)));
        // Output that cannot be read stays empty, and so matches no tree.
        let _ = reader.and_then(|mut reader| reader.read_line(&mut line));
        line.trim().to_owned()
    };
    match status.code() {
        Some(0) => Ok(Some(first_line("said"))),
        Some(1) => Ok(None),
        _ => Err(format!("git cannot repeat its merge: {}", first_line("complained"))),
    }
}

/// Waits for git to end, within a time limit.
fn wait(child: &mut Child) -> Result<ExitStatus, String> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if start.elapsed() < LONGEST => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) => {
                let killed = child.kill().and_then(|()| child.wait());
                let seconds = LONGEST.as_secs();
                return Err(match killed {
                    Ok(_) => format!("git did not repeat its merge within {seconds} seconds"),
                    Err(e) => format!("git did not repeat its merge within {seconds} seconds: {e}"),
                });
            }
            Err(e) => return Err(format!("cannot wait for git: {e}")),
        }
    }
}
