//! A merge, made again: its tree must be what merging its parents gives, so that nothing was slipped in.
//!
//! Three ways, from cheap to exact. Most merges touch different files, and comparing four trees entry by entry shows that
//! each entry is the one that one side changed. Where both sides changed one file, libgit2 merges; where that gives another
//! tree or a conflict (it does not search for renames here), git itself decides, as in Bitcoin Core's own checker. The
//! first two say yes only where no entry comes from nowhere, which is what the check is for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use git2::{MergeOptions, ObjectType, Oid, Repository};

use crate::object::{DEPTH, TreeEntry, admit, tree_entries};

/// The longest that git may take for one merge.
const LONGEST: Duration = Duration::from_mins(5);

pub(super) struct Merger {
    objects: PathBuf,
    /// Whether the repository has a commit graph: a cache of who descends from whom, which libgit2 believes.
    graph: bool,
}

impl Merger {
    /// For merges in `repository`, into which nothing is written: what a merge makes stays in memory, as long as this
    /// opened repository does.
    pub fn new(repository: &Repository) -> Result<Self, git2::Error> {
        repository.odb()?.add_new_mempack_backend(1000)?;
        let objects = repository.commondir().join("objects");
        let graph =
            ["info/commit-graph", "info/commit-graphs"].iter().any(|name| objects.join(name).exists());
        Ok(Self { objects, graph })
    }

    /// Whether merging `theirs` into `ours` gives `tree`.
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

/// Whether every entry of `merged` is that of the side which changed it. `false` says nothing.
fn by_entries(repository: &Repository, ours: Oid, theirs: Oid, merged: Oid) -> Result<bool, git2::Error> {
    let bases = repository.merge_bases(ours, theirs)?;
    // Histories that cross have several, and merging them is not this simple.
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

/// What a three-way merge takes: the value of the side that changed it.
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

/// `git merge-tree` (2.38 or newer) over `objects`, in an empty repository of its own, so that the settings and caches of
/// the one that is judged do not matter. `None`: conflicts.
fn by_git(objects: &Path, ours: Oid, theirs: Oid) -> Result<Option<String>, String> {
    let folder = tempfile::tempdir().map_err(|e| format!("no folder to merge in: {e}"))?;
    Repository::init_bare(folder.path()).map_err(|e| e.message().to_owned())?;
    // Into files: what it says of a conflict is as long as the conflict.
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
        .map_err(|e| format!("git cannot be run to make its merge again: {e}"))?;
    let status = wait(&mut child)?;
    let first_line = |name: &str| -> String {
        let mut line = String::new();
        let reader = File::open(place(name)).map(|file| BufReader::new(file.take(1000)));
        // What cannot be read is no answer, and is told apart below by being none.
        let _ = reader.and_then(|mut reader| reader.read_line(&mut line));
        line.trim().to_owned()
    };
    match status.code() {
        Some(0) => Ok(Some(first_line("said"))),
        Some(1) => Ok(None),
        _ => Err(format!("git cannot make its merge again: {}", first_line("complained"))),
    }
}

/// Waits for git to end, but not for ever.
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
                    Ok(_) => format!("git did not make its merge again within {seconds} seconds"),
                    Err(e) => format!("git did not make its merge again within {seconds} seconds: {e}"),
                });
            }
            Err(e) => return Err(format!("git cannot be waited for: {e}")),
        }
    }
}
