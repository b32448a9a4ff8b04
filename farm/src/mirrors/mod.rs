//! Mirrored projects, and whether each still is what it was: `hab-build mirror`.

pub mod projects;
mod remove;
pub mod repositories;
mod sync;
pub mod view;

use std::path::PathBuf;

use hab_mirror::MirrorError;
use hab_mirror::git::{Change, JournalEntry, State, size_below, without_user};
use hab_mirror::projects::Project;

use crate::error::FarmError;
use crate::facts::{Fact, Facts};
use crate::fetching::Fetching;
use crate::folder::DataFolder;
use crate::progress::Progress;
use hab_clock::now;
use projects::ProjectFiles;
use repositories::Repositories;
use view::Views;

/// A project, and the state of its mirror.
#[derive(Debug, serde::Serialize)]
pub struct MirrorRow {
    /// Its name.
    pub project: String,
    /// Its upstreams, the preferred one first.
    pub urls: Vec<String>,
    /// The policy that judges its refs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Whether it is mirrored here.
    pub mirrored: bool,
    /// How many bytes its own folder takes. A fork's objects lie with the project it is a fork of.
    pub size: u64,
    /// The number of branches and tags.
    pub refs: usize,
    /// The number of changes in its journal.
    pub entries: usize,
    /// When the newest change was seen, in unix seconds.
    pub newest: Option<i64>,
    /// The digest of its journal's last line.
    pub head: Option<hab_oci::Digest>,
    /// How the last syncs went.
    pub state: State,
    /// For how many seconds a sync has been overdue.
    pub lag: Option<i64>,
    /// The refs that wait for a person's decision.
    pub frozen: Vec<String>,
    /// The branch that HEAD names.
    pub branch: Option<String>,
    /// How many refs are here that the upstream has deleted.
    pub deleted: usize,
    /// Why its mirror cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// What a person can do about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A frozen ref, which waits for a person's decision.
#[derive(Debug, serde::Serialize)]
pub struct Waiting {
    /// The ref's name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Its value here.
    pub old: String,
    /// Its value that was last seen elsewhere.
    pub new: String,
    /// What kind of change that is.
    pub kind: Change,
    /// The upstream where it was seen.
    pub upstream: String,
    /// When it was seen, in unix seconds.
    pub at: i64,
}

/// A file or folder that can be removed without losing anything.
#[derive(Debug, serde::Serialize)]
pub struct Leftover {
    /// Its path below the data folder.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// What it is.
    pub what: &'static str,
}

/// The mirrored projects.
#[derive(Clone, Copy)]
pub struct Mirrors<'a> {
    /// The known projects.
    pub projects: ProjectFiles<'a>,
    /// The repositories of mirrors.
    pub repositories: Repositories<'a>,
    /// The verified views.
    pub views: Views<'a>,
    /// Remembers where journals ended.
    pub facts: Facts<'a>,
    /// Stores journals, and says whether fetching is forbidden.
    pub fetching: Fetching<'a>,
    /// The data folder.
    pub data: &'a DataFolder,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl Mirrors<'_> {
    /// The projects that are mirrored here, or with `all` all known projects, by name.
    pub fn rows(&self, all: bool) -> Result<Vec<MirrorRow>, FarmError> {
        let mut rows = Vec::new();
        let projects = self.projects.all()?;
        for name in self.repositories.names() {
            if projects.get(&name).is_none() {
                // The project was mirrored while something still named it.
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

    /// The projects to sync: the named ones; without names the mirrored ones, or with `all` all known ones.
    pub fn wanted(&self, names: &[String], all: bool) -> Result<Vec<Project>, FarmError> {
        if !names.is_empty() {
            return names.iter().map(|name| self.projects.get(name)).collect();
        }
        let projects = self.projects.all()?;
        let mut wanted: Vec<Project> =
            projects.iter().filter(|p| all || self.repositories.has(&p.name)).cloned().collect();
        // A fork comes after the project whose objects it shares.
        wanted.sort_by_key(|project| project.fork_of.is_some());
        Ok(wanted)
    }

    /// Every change of a project's refs that was seen, oldest first.
    pub fn log(&self, project: &str) -> Result<Vec<JournalEntry>, FarmError> {
        Ok(self.repositories.get(project)?.journal()?.entries().to_vec())
    }

    /// The refs of a project that wait for a person's decision, each with the newest value that was seen of it.
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

    /// Checks that a project's journal is whole, that it still has its remembered end, and that every object it names
    /// is here. With `fsck`, also checks every object that a ref reaches.
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

    /// Finds what killed runs left behind, and removes it unless `dry`. Nothing is lost by that: an object that a
    /// journal ever named stays.
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

    /// The state of a project.
    pub fn row(&self, project: &Project) -> MirrorRow {
        let mirrored = self.repositories.has(&project.name);
        let mut row = MirrorRow {
            project: project.name.clone(),
            urls: project.urls.iter().map(|url| without_user(url)).collect(),
            policy: project.policy.clone(),
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
        // An unreadable mirror must not hide the others.
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
        // The journal comes last, so that everything else is reported even if it cannot be read.
        let journal = mirror.journal()?;
        row.entries = journal.entries().len();
        row.newest = journal.entries().last().map(|e| e.at);
        row.head = Some(journal.head().clone());
        row.frozen = journal.frozen().into_iter().map(str::to_owned).collect();
        row.deleted = journal.newest(Change::Deleted).len();
        Ok(())
    }
}
