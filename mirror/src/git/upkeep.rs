//! Maintenance that makes serving fast and changes nothing that is served: few packs with a bitmap, a commit-graph,
//! packed refs, and a bundle for first clones. It may be skipped, or interrupted at any point.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use git2::ObjectType;

use super::program::Git;
use super::url::Allow;
use super::{Bounds, GRAPH, GitMirror, State};
use crate::{MirrorError, Observer};

/// The age at which a bundle is made anew. A client that clones with an older one fetches the rest.
const BUNDLE_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What upkeep did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Upkeep {
    /// Whether anything had changed since the last upkeep.
    pub needed: bool,
    /// Whether the bundle was made anew.
    pub bundled: bool,
}

impl GitMirror {
    /// Does the upkeep that has become necessary since the last one.
    pub fn keep_up(&self, bundle: bool, observer: &dyn Observer) -> Result<Upkeep, MirrorError> {
        let _alone = self.lock(observer)?;
        let head = self.journal()?.head().to_string();
        let state = self.state();
        let file = self.path.join("clone.bundle");
        let age = fs::metadata(&file).and_then(|m| m.modified()).ok();
        let stale =
            age.is_none_or(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > BUNDLE_AGE));
        let needed = state.kept_up.as_ref() != Some(&head);
        let refs = self.refs()?;
        let bundle =
            bundle && refs.keys().any(|n| n.starts_with("refs/heads/") || n.starts_with("refs/tags/"));
        if refs.is_empty() || (!needed && (!bundle || age.is_some())) {
            return Ok(Upkeep { needed: false, bundled: false });
        }
        let bounds = Bounds::default();
        let git = Git { project: &self.project, allow: Allow::default(), bounds, tolerate: &[], observer };
        if needed {
            self.pack(&git)?;
        }
        let bundled = bundle && stale;
        if bundled {
            let new = self.path.join("clone.bundle.new");
            let arguments = [
                "create".as_ref(),
                "--quiet".as_ref(),
                new.as_os_str(),
                "--branches".as_ref(),
                "--tags".as_ref(),
            ];
            git.here("bundle", &self.path, &arguments, None)?;
            File::open(&new).and_then(|file| file.sync_all()).map_err(MirrorError::io(&new))?;
            fs::rename(&new, &file).map_err(MirrorError::io(&file))?;
        }
        // Read the state again: a sync may have written it meanwhile.
        self.record(&State { kept_up: Some(head), ..self.state() })?;
        Ok(Upkeep { needed, bundled })
    }

    /// Checks that every object that a ref reaches is present and valid (git-fsck(1)).
    pub fn fsck(&self, tolerate: &[String], observer: &dyn Observer) -> Result<(), MirrorError> {
        let bounds = Bounds::default();
        let git = Git { project: &self.project, allow: Allow::default(), bounds, tolerate, observer };
        let words = ["--full", "--no-dangling", "--no-progress", "--no-reflogs"].map(OsStr::new);
        git.here("fsck", &self.path, &words, None)
    }

    /// Finds what killed syncs and upkeeps left, and removes it unless `dry`; does nothing while one of them runs.
    pub fn sweep(&self, dry: bool, found: &mut Vec<(PathBuf, u64)>) -> Result<(), MirrorError> {
        let path = self.path.with_extension("lock");
        let lock = File::create(&path).map_err(MirrorError::io(&path))?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        let mut left = vec![self.quarantine(), self.path.join("clone.bundle.new")];
        left.extend(self.locks()?);
        // Only in the mirror's own object folder: its lock keeps others from packing there meanwhile.
        for entry in fs::read_dir(self.path.join("objects/pack")).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("tmp_") {
                left.push(entry.path());
            }
        }
        for path in left {
            if !path.exists() {
                continue;
            }
            let size = size_below(&path);
            if !dry {
                hab_tree::remove(&path).map_err(MirrorError::io(&path))?;
            }
            found.push((path, size));
        }
        Ok(())
    }

    fn pack(&self, git: &Git<'_>) -> Result<(), MirrorError> {
        let words = |text: &'static str| text.split(' ').map(OsStr::new).collect::<Vec<_>>();
        // The object folder may belong to another project.
        let store = self.objects.parent().unwrap_or(&self.path);
        let store = Self::open(store.parent().unwrap_or(store), &stem(store))?;
        let _alone = if store.path == self.path { None } else { Some(store.lock(git.observer)?) };
        // A geometric repack keeps every object, reachable or not: nothing in a mirror is ever garbage-collected.
        git.here("repack", &store.path, &words("-d -q --geometric=2"), None)?;
        let tips = self.tips()?;
        if !tips.is_empty() {
            let snapshot =
                tempfile::NamedTempFile::new_in(&store.path).map_err(MirrorError::io(&store.path))?;
            fs::write(snapshot.path(), tips).map_err(MirrorError::io(snapshot.path()))?;
            let mut named = OsStr::new("--refs-snapshot=").to_owned();
            named.push(snapshot.path());
            let mut arguments = words("write --no-progress --bitmap");
            arguments.push(&named);
            git.here("multi-pack-index", &store.path, &arguments, None)?;
        }
        git.here("pack-refs", &self.path, &words("--all"), None)?;
        let graph = self.path.join(GRAPH);
        fs::create_dir_all(graph.join("info")).map_err(MirrorError::io(&graph))?;
        let mut arguments = words("write --no-progress --reachable --object-dir");
        arguments.push(graph.as_os_str());
        git.here("commit-graph", &self.path, &arguments, Some(&graph))
    }

    /// The commits that the refs of all projects in this object store name: the ones for which bitmaps are useful.
    fn tips(&self) -> Result<String, MirrorError> {
        let mut text = String::new();
        for repository in self.sharers()? {
            for reference in repository.references().map_err(self.broken())? {
                let commit = reference.and_then(|r| r.peel(ObjectType::Commit));
                if let Ok(commit) = commit {
                    text.push_str(&format!("{}\n", commit.id()));
                }
            }
        }
        Ok(text)
    }
}

fn stem(path: &std::path::Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The bytes of all files below a folder, or of one file; links are not followed.
pub fn size_below(path: &std::path::Path) -> u64 {
    let (mut sum, mut waiting) = (0, vec![path.to_owned()]);
    while let Some(path) = waiting.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else {
            sum += metadata.len();
        }
    }
    sum
}
