//! Bare mirrors of git repositories.
//!
//! The git program fetches, because it supports every transport and indexes packs faster than the libraries do; libgit2
//! reads. New objects stay in quarantine until git has checked them. Then refs are compared: a tag never moves, and a
//! branch only moves forward. Any other value is kept under `refs/history/` until a person decides.
//!
//! Start reading at [`GitMirror::sync`].

mod accept;
mod ancestry;
mod ask;
mod blame;
mod carry;
mod change;
mod export;
mod head;
mod heal;
mod journal;
mod lacking;
mod packed;
mod program;
mod quarantine;
mod refs;
mod remote;
mod remove;
mod room;
mod run;
mod state;
mod sync;
mod tag;
mod tree;
mod upkeep;
mod url;
mod view;
mod whole;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{ErrorClass, ErrorCode, ObjectType, Oid, Repository};

pub use accept::Accepted;
pub use carry::Carried;
pub use export::Exported;
pub use journal::{Change, Journal, JournalEntry, LIMIT as JOURNAL_LIMIT};
pub use lacking::{Lacking, Submodule};
pub use refs::RefPattern;
pub use remove::Removal;
pub use room::LeftOut;
pub use state::{State, was_synced};
pub use sync::{SyncRequest, Synced};
pub use tag::TagBytes;
pub use tree::Files;
pub use upkeep::{Upkeep, size_below};
pub use url::{Allow, host, without_user, without_users};
pub use view::{Note, note};

use refs::is_ref_name;

use crate::{MirrorError, Observer};

/// The file that names the object folder of another repository.
const ALTERNATES: &str = "objects/info/alternates";

/// The name of a repository's folder for its commit-graph: an object folder of its own that only serving uses. Code
/// that judges a history must not use it, because a commit-graph is a summary of objects that nothing signs.
pub const GRAPH: &str = "graph";

/// Whether `name` is a valid project name: letters, digits, `-`, `_` and `.`, with no leading dot.
pub fn is_project_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.bytes().all(plain)
}

/// Limits on what an upstream may make git use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most bytes of one fetch; Bitcoin Core's packs have 0.4 GB.
    pub packs: u64,
    /// The largest object, in bytes, uncompressed.
    pub object: u64,
    /// The most refs that an upstream may list.
    pub refs: usize,
    /// The most bytes of git's output.
    pub output: u64,
    /// The most memory that git may allocate, in bytes.
    pub memory: u64,
    /// The longest time for listing an upstream's refs.
    pub answer: Duration,
    /// The longest time for a fetch.
    pub fetch: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            packs: 16 << 30,
            object: 256 << 20,
            refs: 500_000,
            output: 128 << 20,
            memory: 4 << 30,
            answer: Duration::from_secs(120),
            fetch: Duration::from_secs(3600),
        }
    }
}

/// One project's bare repository.
pub struct GitMirror {
    project: String,
    path: PathBuf,
    /// The folder of its objects: its own, or that of the project that it is a fork of.
    objects: PathBuf,
    repository: Repository,
}

impl GitMirror {
    /// Opens the mirror of `project` below `folder`, and creates it if it is missing.
    pub fn open(folder: &Path, project: &str) -> Result<Self, MirrorError> {
        let path = folder.join(format!("{project}.git"));
        let repository = Repository::open_bare(&path).or_else(|e| match e.code() {
            ErrorCode::NotFound => Repository::init_bare(&path),
            _ => Err(e),
        });
        let repository =
            repository.map_err(|source| MirrorError::Repository { path: path.clone(), source })?;
        let objects = objects_of(&path)?;
        Ok(Self { project: project.to_owned(), path, objects, repository })
    }

    /// Opens the mirror of `project`, whose objects are stored with those of the project `of`.
    pub fn open_fork(folder: &Path, project: &str, of: &str) -> Result<Self, MirrorError> {
        let own = Self::open(folder, project)?;
        if own.path.join(ALTERNATES).exists() {
            return Ok(own);
        }
        Self::open(folder, of)?;
        let alternates = own.path.join(ALTERNATES);
        let text = format!("../../{of}.git/objects\n");
        fs::write(&alternates, text).map_err(MirrorError::io(&alternates))?;
        Self::open(folder, project)
    }

    /// Opens any repository at `path`, bare or not, to read it. A person's own repository is judged like a mirror.
    pub fn existing(path: &Path) -> Result<Self, MirrorError> {
        let repository = Repository::open(path).map_err(|e| {
            let detail = match e.code() {
                _ if e.message().contains("object format") => {
                    "it names its objects by SHA-256, and only SHA-1 can be read".to_owned()
                }
                ErrorCode::NotFound => "there is no repository".to_owned(),
                _ => e.message().to_owned(),
            };
            MirrorError::NotARepository { path: path.to_owned(), detail }
        })?;
        let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let project = name.strip_suffix(".git").filter(|stem| !stem.is_empty()).unwrap_or(&name).to_owned();
        let path = repository.path().to_owned();
        Ok(Self { project, objects: path.join("objects"), path, repository })
    }

    /// Whether the repository was cloned without all of its history or all of its objects.
    pub fn is_partial(&self) -> bool {
        // A promisor is the remote that later sends what a partial clone left out (gitrepository-layout(5),
        // git-config(1)).
        let promised = || {
            let config = self.repository.config().ok()?;
            let mut entries = config.entries(Some("partialclone$|\\.promisor$")).ok()?;
            entries.next()?.ok().map(drop)
        };
        self.repository.is_shallow() || promised().is_some()
    }

    /// The project's name.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The id of the commit that `revision` names (gitrevisions(7)), if it names one. Also of a commit that git cannot
    /// parse: the judge must see it and refuse it.
    pub fn commit_id(&self, revision: &str) -> Option<String> {
        let found = self.repository.revparse_single(revision).and_then(|o| o.peel(ObjectType::Commit));
        let found = found.ok().map(|commit| commit.id()).or_else(|| {
            let named =
                self.repository.resolve_reference_from_short_name(revision).ok().and_then(|r| r.target());
            let id = Oid::from_str(revision).ok().filter(|_| revision.len() == 40).or(named)?;
            let kind = self.repository.odb().and_then(|odb| odb.read_header(id)).ok()?.1;
            (kind == ObjectType::Commit).then_some(id)
        });
        found.map(|id| id.to_string())
    }

    /// The bytes of a commit.
    pub fn commit(&self, id: &str) -> Result<Vec<u8>, MirrorError> {
        let id = Oid::from_str(id).map_err(self.broken())?;
        Ok(self.small(id)?.1)
    }

    /// The repository's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self, observer: &dyn Observer) -> Result<File, MirrorError> {
        let path = self.path.with_extension("lock");
        hab_file::lock(&path, || !observer.cancelled())?.ok_or_else(|| blame::stopped(&self.project))
    }

    /// The journal of every change that a sync of this project saw.
    pub fn journal(&self) -> Result<Journal, MirrorError> {
        Journal::open(&self.path.with_extension("journal"))
    }

    /// How the last syncs went.
    pub fn state(&self) -> State {
        State::read(&self.path.with_extension("state"))
    }

    /// Records how the last syncs went.
    pub fn record(&self, state: &State) -> Result<(), MirrorError> {
        state.write(&self.path.with_extension("state"))
    }

    /// Whether this mirror has the object: a commit, tree, blob or tag.
    pub fn has(&self, id: &str) -> Result<bool, MirrorError> {
        self.holds(Oid::from_str(id).map_err(self.broken())?)
    }

    fn holds(&self, id: Oid) -> Result<bool, MirrorError> {
        Ok(self.repository.odb().map_err(self.broken())?.exists(id))
    }

    /// The folder where an upstream's objects arrive first.
    fn quarantine(&self) -> PathBuf {
        self.path.with_extension("incoming")
    }

    /// The repositories that store their objects in the same folder as this one, itself among them.
    fn sharers(&self) -> Result<Vec<Repository>, MirrorError> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(MirrorError::io(folder))?.flatten() {
            let path = entry.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|n| n.strip_suffix(".git"));
            let theirs = name.filter(|name| is_project_name(name)).and_then(|_| objects_of(&path).ok());
            // A repository that cannot be opened is left out.
            if theirs.as_ref() == Some(&self.objects)
                && let Ok(repository) = Repository::open_bare(&path)
            {
                found.push(repository);
            }
        }
        Ok(found)
    }

    /// The refs below `prefix` and the objects that they name.
    fn targets(&self, prefix: &str) -> Result<BTreeMap<String, Oid>, MirrorError> {
        let mut found = BTreeMap::new();
        for reference in self.repository.references_glob(&format!("{prefix}*")).map_err(self.broken())? {
            let reference = reference.map_err(self.broken())?;
            if let (Ok(name), Some(target)) = (reference.name(), reference.target()) {
                found.insert(name.to_owned(), target);
            }
        }
        Ok(found)
    }

    /// The error for an object that cannot be read: it is missing, it is malformed or does not match its id, or the
    /// repository cannot be read.
    fn unreadable(&self, what: String, e: &git2::Error) -> MirrorError {
        match (e.code(), e.class()) {
            (ErrorCode::NotFound, _) => {
                MirrorError::Missing { what, path: self.path.clone(), partial: self.is_partial() }
            }
            (ErrorCode::Invalid, _) | (_, ErrorClass::Object | ErrorClass::Tag | ErrorClass::Odb) => {
                MirrorError::Malformed { what, expected: "a git object", detail: e.message().to_owned() }
            }
            _ => MirrorError::Repository {
                path: self.path.clone(),
                source: git2::Error::new(e.code(), e.class(), e.message()),
            },
        }
    }

    fn broken(&self) -> impl Fn(git2::Error) -> MirrorError + '_ {
        |source| MirrorError::Repository { path: self.path.clone(), source }
    }
}

/// The object folder of the repository at `path`.
fn objects_of(path: &Path) -> Result<PathBuf, MirrorError> {
    let shared = fs::read_to_string(path.join(ALTERNATES)).ok();
    let objects = match shared.as_deref().and_then(|text| text.lines().next()) {
        // Relative to this repository's own object folder (gitrepository-layout(5)).
        Some(shared) => path.join("objects").join(shared),
        None => path.join("objects"),
    };
    objects.canonicalize().map_err(MirrorError::io(&objects))
}
