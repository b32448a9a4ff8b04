//! What is mirrored, and whether it is still what it was: `hab-build mirror`.

pub mod projects;
mod remove;
pub mod repositories;
mod sync;
pub mod view;

use std::path::PathBuf;

use hab_mirror::MirrorError;
use hab_mirror::git::{Change, Entry, State, size_below, without_user};
use hab_mirror::projects::Project;

use crate::clock::now;
use crate::error::FarmError;
use crate::facts::{Fact, Facts};
use crate::fetching::Fetching;
use crate::folder::DataFolder;
use crate::progress::Progress;
use projects::ProjectFiles;
use repositories::Repositories;
use view::Views;

/// A project, and how its mirror stands.
#[derive(Debug, serde::Serialize)]
pub struct MirrorRow {
    /// Its name.
    pub project: String,
    /// Its upstreams, the preferred one first.
    pub urls: Vec<String>,
    /// Whether it is mirrored here.
    pub mirrored: bool,
    /// How many bytes its own folder takes; a fork's objects lie with the project it is a fork of.
    pub size: u64,
    /// How many branches and tags it has.
    pub refs: usize,
    /// How many changes its journal has.
    pub entries: usize,
    /// When the newest was seen, in unix seconds.
    pub newest: Option<i64>,
    /// The digest of its journal's last line.
    pub head: Option<hab_oci::Digest>,
    /// How the last syncs went.
    pub state: State,
    /// For how many seconds it should have been synced and was not.
    pub lag: Option<i64>,
    /// The refs that wait for a person.
    pub frozen: Vec<String>,
    /// The branch that HEAD names.
    pub branch: Option<String>,
    /// How many refs are here that upstream has deleted.
    pub deleted: usize,
    /// Why its mirror does not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// What to do about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A ref that waits for a person.
#[derive(Debug, serde::Serialize)]
pub struct Waiting {
    /// Which ref.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What it names here.
    pub old: String,
    /// What it was last seen to name elsewhere.
    pub new: String,
    /// What that was.
    pub kind: Change,
    /// Where it was seen.
    pub upstream: String,
    /// When, in unix seconds.
    pub at: i64,
}

/// Something that can be removed without losing anything.
#[derive(Debug, serde::Serialize)]
pub struct Leftover {
    /// Where it lies, below the data folder.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// What it is.
    pub what: &'static str,
}

/// The mirrored projects.
#[derive(Clone, Copy)]
pub struct Mirrors<'a> {
    /// Which there are.
    pub projects: ProjectFiles<'a>,
    /// Where they are mirrored.
    pub repositories: Repositories<'a>,
    /// What is accepted of them.
    pub views: Views<'a>,
    /// Where their journals ended.
    pub facts: Facts<'a>,
    /// Where journals are kept, and whether anything may be fetched.
    pub fetching: Fetching<'a>,
    /// The data folder.
    pub data: &'a DataFolder,
    /// Who is told.
    pub progress: &'a dyn Progress,
}

impl Mirrors<'_> {
    /// The projects that are mirrored here, or all that there are, by name.
    pub fn rows(&self, all: bool) -> Result<Vec<MirrorRow>, FarmError> {
        let mut rows = Vec::new();
        let projects = self.projects.all()?;
        for name in self.repositories.names() {
            if projects.get(&name).is_none() {
                // It was mirrored when something still named it.
                rows.push(self.row(&Project::new(&name, Vec::new())));
            }
        }
        for project in projects.iter() {
            if all || self.repositories.has(&project.name) {
                rows.push(self.row(project));
            }
        }
        rows.sort_by(|a, b| a.project.cmp(&b.project));
        Ok(rows)
    }

    /// The projects to sync: the named ones; without names those that are mirrored, or all.
    pub fn wanted(&self, names: &[String], all: bool) -> Result<Vec<Project>, FarmError> {
        if !names.is_empty() {
            return names.iter().map(|name| self.projects.get(name)).collect();
        }
        let projects = self.projects.all()?;
        let mut wanted: Vec<Project> =
            projects.iter().filter(|p| all || self.repositories.has(&p.name)).cloned().collect();
        // What a fork shares comes first.
        wanted.sort_by_key(|project| project.fork_of.is_some());
        Ok(wanted)
    }

    /// Every change that was seen of a project's refs, the oldest first.
    pub fn log(&self, project: &str) -> Result<Vec<Entry>, FarmError> {
        Ok(self.repositories.get(project)?.journal()?.entries().to_vec())
    }

    /// The refs of a project that wait for a person, and what was seen of them.
    pub fn waiting(&self, project: &str) -> Result<Vec<Waiting>, FarmError> {
        let mirror = self.repositories.get(project)?;
        let (journal, refs) = (mirror.journal()?, mirror.refs()?);
        let waits = |name: &str| {
            let newest = journal.undecided(name).into_iter().rev().find(|e| e.new.is_some())?;
            Some(Waiting {
                reference: name.to_owned(),
                old: refs.get(name)?.clone(),
                new: newest.new.clone()?,
                kind: newest.kind,
                upstream: newest.upstream.clone(),
                at: newest.at,
            })
        };
        Ok(journal.frozen().into_iter().filter_map(waits).collect())
    }

    /// Checks that a project's journal is whole, that its end is where it was, and that every object it names is here; with
    /// `fsck` also every object that a ref reaches.
    pub fn check(&self, project: &str, fsck: bool) -> Result<MirrorRow, FarmError> {
        let mirror = self.repositories.get(project)?;
        let journal = mirror.journal()?;
        let broken = |detail: String| MirrorError::Malformed {
            what: format!("the ref journal of {project}"),
            expected: "the one that was written here",
            detail,
        };
        if let Some(head) = self.facts.latest(&Fact::RefJournal { project })?
            && !journal.contains(&head)
        {
            return Err(broken(format!("its end is gone: it once ended with line {head}")).into());
        }
        for entry in journal.entries() {
            for id in entry.objects() {
                if !mirror.has(id)? {
                    let what = format!("object {id} of {} is not here any more", entry.reference);
                    return Err(broken(what).into());
                }
            }
        }
        let known = self.projects.get(project).unwrap_or_else(|_| Project::new(project, Vec::new()));
        if fsck {
            self.fetching.with(|_, view| mirror.fsck(&known.tolerate, view))?;
        }
        Ok(self.row(&known))
    }

    /// What can be removed without losing anything, and is unless `dry`: what killed runs left. Objects are none of it:
    /// nothing that a journal ever named goes.
    pub fn sweep(&self, dry: bool) -> Result<Vec<Leftover>, FarmError> {
        let mut found = Vec::new();
        for project in self.repositories.names() {
            self.repositories.get(&project)?.sweep(dry, &mut found)?;
        }
        self.sweep_removed(dry, &mut found)?;
        let left = |(path, size): (PathBuf, u64)| {
            let path = path.strip_prefix(self.data.path()).unwrap_or(&path).to_owned();
            Leftover { path, size, what: "left by a run that was killed" }
        };
        Ok(found.into_iter().map(left).collect())
    }

    /// How a project stands.
    pub fn row(&self, project: &Project) -> MirrorRow {
        let mirrored = self.repositories.has(&project.name);
        let mut row = MirrorRow {
            project: project.name.clone(),
            urls: project.urls.iter().map(|url| without_user(url)).collect(),
            mirrored,
            size: 0,
            refs: 0,
            entries: 0,
            newest: None,
            head: None,
            state: State::default(),
            lag: None,
            frozen: Vec::new(),
            branch: None,
            deleted: 0,
            broken: None,
            hint: None,
        };
        // One that does not read must not hide the others.
        if mirrored && let Err(e) = self.look_at(project, &mut row) {
            row.hint = e.hint();
            row.broken = Some(e.to_string());
        }
        row
    }

    fn look_at(&self, project: &Project, row: &mut MirrorRow) -> Result<(), FarmError> {
        let mirror = self.repositories.open(&project.name)?;
        row.state = mirror.state();
        let interval = i64::try_from(project.interval.0.as_secs()).unwrap_or(i64::MAX);
        row.lag = row.state.succeeded.map(|at| (now() - at - interval).max(0));
        row.size = size_below(mirror.path());
        row.refs = mirror.refs()?.len();
        row.branch = mirror.head();
        // Last, because what can be said without it is said.
        let journal = mirror.journal()?;
        row.entries = journal.entries().len();
        row.newest = journal.entries().last().map(|e| e.at);
        row.head = Some(journal.head().clone());
        row.frozen = journal.frozen().into_iter().map(str::to_owned).collect();
        row.deleted = journal.newest(Change::Deleted).len();
        Ok(())
    }
}
