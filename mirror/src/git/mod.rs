//! Bare mirrors of git repositories.
//!
//! The git program fetches, because it speaks every transport and indexes packs faster than the libraries; libgit2
//! reads. What arrives lies in quarantine until git has checked it and it is compared with what is here: a tag never
//! moves and a branch only goes on; another value is kept beside, under `refs/history/`, until a person decides.
//!
//! Start reading at [`GitMirror::sync`].

mod accept;
mod ancestry;
mod carry;
mod change;
mod export;
mod heal;
mod journal;
mod packed;
mod program;
mod quarantine;
mod refs;
mod remote;
mod run;
mod state;
mod sync;
mod tree;
mod upkeep;
mod url;
mod view;
mod whole;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use git2::{ErrorCode, ObjectType, Oid, Repository};

pub use accept::Accepted;
pub use carry::Carried;
pub use export::Exported;
pub use journal::{Change, Entry, Journal, LIMIT as JOURNAL_LIMIT};
pub use refs::RefPattern;
pub use state::State;
pub use sync::{Synced, Wish};
pub use tree::Files;
pub use upkeep::{Upkeep, size_below};
pub use url::{Allow, host, without_user, without_users};

use refs::is_ref_name;

use crate::{MirrorError, Observer};

/// Where a repository says that its objects are with another's.
const ALTERNATES: &str = "objects/info/alternates";
/// The largest tag or commit object that is read, in bytes.
const OBJECT_LIMIT: usize = 4 << 20;

/// Where a repository's commit-graph lies, within it: an object folder of its own, which only serving looks at. Whoever
/// judges a history must not believe it: it is a summary of objects that nothing signs.
pub const GRAPH: &str = "graph";

/// Whether `name` may be a project's: letters, digits, `-`, `_` and `.`, and no leading dot.
pub fn is_project_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.bytes().all(plain)
}

/// What an upstream may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most that one fetch may bring, in bytes; Bitcoin Core's packs have 0.4 GB.
    pub packs: u64,
    /// The largest object, in bytes, however small it is packed.
    pub object: u64,
    /// The most refs that are listed.
    pub refs: usize,
    /// The most that git may say, in bytes.
    pub output: u64,
    /// The most memory that git may take for itself, in bytes.
    pub memory: u64,
    /// The longest that an upstream may take to list its refs.
    pub answer: Duration,
    /// The longest that a fetch may take altogether.
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
    /// The folder that its objects are kept in: its own, or that of the project it is a fork of.
    objects: PathBuf,
    repository: Repository,
}

/// An annotated tag as it lies in the repository: bytes with names, **unverified**.
#[derive(Clone, Debug)]
pub struct TagBytes {
    /// The ref that was asked for, without `refs/tags/`.
    pub name: String,
    /// The object id that the ref names.
    pub id: String,
    /// The tag object, as git stores it, signature included. `None` for a lightweight tag.
    pub object: Option<Vec<u8>>,
    /// The id of the commit that the tag finally names.
    pub commit_id: String,
    /// That commit object, as git stores it.
    pub commit: Vec<u8>,
}

impl GitMirror {
    /// Opens the mirror of `project` below `folder`, made when it is not there.
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

    /// Opens the mirror of `project`, whose objects are kept together with those of the project `of`.
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

    /// Opens the repository at `path`, bare or not, to read it. A person's own repository is judged like any other.
    pub fn existing(path: &Path) -> Result<Self, MirrorError> {
        let broken = |source| MirrorError::Repository { path: path.to_owned(), source };
        let repository = Repository::open(path).map_err(broken)?;
        let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let project = name.strip_suffix(".git").filter(|stem| !stem.is_empty()).unwrap_or(&name).to_owned();
        let path = repository.path().to_owned();
        Ok(Self { project, objects: path.join("objects"), path, repository })
    }

    /// The project's name.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The id of the commit that `revision` names (gitrevisions(7)), if it names one.
    pub fn commit_id(&self, revision: &str) -> Option<String> {
        let found = self.repository.revparse_single(revision).and_then(|o| o.peel(ObjectType::Commit));
        found.ok().map(|commit| commit.id().to_string())
    }

    /// The bytes of a commit.
    pub fn commit(&self, id: &str) -> Result<Vec<u8>, MirrorError> {
        let id = Oid::from_str(id).map_err(self.broken())?;
        Ok(self.small(id)?.1)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self, observer: &dyn Observer) -> Result<File, MirrorError> {
        let path = self.path.with_extension("lock");
        let file = File::create(&path).map_err(MirrorError::io(&path))?;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if observer.cancelled() {
                return Err(MirrorError::Cancelled { what: self.project.clone() });
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(file)
    }

    /// The journal of every change that a sync of this project saw.
    pub fn journal(&self) -> Result<Journal, MirrorError> {
        Journal::open(&self.path.with_extension("journal"))
    }

    /// How the last syncs went.
    pub fn state(&self) -> State {
        State::read(&self.path.with_extension("state"))
    }

    /// Writes down how the last syncs went.
    pub fn record(&self, state: &State) -> Result<(), MirrorError> {
        state.write(&self.path.with_extension("state"))
    }

    /// Whether an object is here, of whatever kind.
    pub fn has(&self, id: &str) -> Result<bool, MirrorError> {
        self.holds(Oid::from_str(id).map_err(self.broken())?)
    }

    fn holds(&self, id: Oid) -> Result<bool, MirrorError> {
        Ok(self.repository.odb().map_err(self.broken())?.exists(id))
    }

    /// Where an upstream's objects land first.
    fn quarantine(&self) -> PathBuf {
        self.path.with_extension("incoming")
    }

    /// The repositories that keep their objects where this one does, itself among them.
    fn sharers(&self) -> Result<Vec<Repository>, MirrorError> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(MirrorError::io(folder))?.flatten() {
            let path = entry.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|n| n.strip_suffix(".git"));
            let theirs = name.filter(|name| is_project_name(name)).and_then(|_| objects_of(&path).ok());
            // One that does not open has no say in what another needs.
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

    /// Every value that the tag `name` was ever seen to have, the first one first.
    pub fn tag(&self, name: &str) -> Result<Vec<TagBytes>, MirrorError> {
        let refname = format!("refs/tags/{name}");
        if !git2::Reference::is_valid_name(&refname) {
            return Ok(Vec::new());
        }
        let mut ids = match self.repository.refname_to_id(&refname) {
            Ok(id) => vec![id],
            Err(e) if e.code() == ErrorCode::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.broken()(e)),
        };
        let journal = self.journal()?;
        if journal.about(&refname).any(|e| e.kind == Change::Accepted) {
            // A person decided; only what was seen since is open.
            let since = journal.undecided(&refname).into_iter().filter_map(|e| e.new.as_deref());
            ids.extend(since.filter_map(|id| Oid::from_str(id).ok()));
        } else {
            let beside = format!("refs/history/tags/{name}/*");
            for reference in self.repository.references_glob(&beside).map_err(self.broken())? {
                ids.extend(reference.map_err(self.broken())?.target());
            }
        }
        let first = ids[0];
        ids.retain(|id| *id != first);
        ids.insert(0, first);
        ids.into_iter().map(|id| self.tag_bytes(name, id)).collect()
    }

    /// The tag `name` with the one value `id`.
    pub fn tag_at(&self, name: &str, id: &str) -> Result<TagBytes, MirrorError> {
        self.tag_bytes(name, Oid::from_str(id).map_err(self.broken())?)
    }

    fn tag_bytes(&self, name: &str, id: Oid) -> Result<TagBytes, MirrorError> {
        let (kind, object) = self.small(id)?;
        let not_a_commit = |_| MirrorError::Malformed {
            what: format!("tag {name} of {}", self.project),
            expected: "a tag of a commit",
            detail: format!("{id} leads to something else"),
        };
        let commit = self.repository.find_object(id, None).map_err(self.broken())?;
        let commit = commit.peel(ObjectType::Commit).map_err(not_a_commit)?.id();
        Ok(TagBytes {
            name: name.to_owned(),
            id: id.to_string(),
            object: (kind == ObjectType::Tag).then_some(object),
            commit_id: commit.to_string(),
            commit: self.small(commit)?.1,
        })
    }

    /// A tag or commit object. Its size is asked first: a pack of megabytes can hold one of gigabytes.
    fn small(&self, id: Oid) -> Result<(ObjectType, Vec<u8>), MirrorError> {
        let odb = self.repository.odb().map_err(self.broken())?;
        let (size, kind) = odb.read_header(id).map_err(self.broken())?;
        if size > OBJECT_LIMIT {
            return Err(MirrorError::Malformed {
                what: format!("object {id} of {}", self.project),
                expected: "a tag or commit",
                detail: format!("{size} bytes are more than one may have ({OBJECT_LIMIT})"),
            });
        }
        Ok((kind, odb.read(id).map_err(self.broken())?.data().to_vec()))
    }

    fn broken(&self) -> impl Fn(git2::Error) -> MirrorError + '_ {
        |source| MirrorError::Repository { path: self.path.clone(), source }
    }
}

/// Where the objects of the repository at `path` are kept.
fn objects_of(path: &Path) -> Result<PathBuf, MirrorError> {
    let shared = fs::read_to_string(path.join(ALTERNATES)).ok();
    let objects = match shared.as_deref().and_then(|text| text.lines().next()) {
        // Relative to the object folder that names it (gitrepository-layout(5)).
        Some(shared) => path.join("objects").join(shared),
        None => path.join("objects"),
    };
    objects.canonicalize().map_err(MirrorError::io(&objects))
}
