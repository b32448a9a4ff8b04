//! Bare mirrors of git repositories.
//!
//! The git program fetches, because it speaks every transport and indexes packs faster than the libraries; libgit2
//! reads. What arrives is held under `refs/incoming/` until it is compared with what is here: a branch follows its
//! upstream (its old tip stays under `refs/history/` when it was rewritten), a tag never moves.

mod export;
mod program;

use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Oid, Repository};

pub use export::Exported;

use crate::{MirrorError, Observer};

/// One project's bare repository.
pub struct GitMirror {
    project: String,
    path: PathBuf,
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
        Ok(Self { project: project.to_owned(), path, repository })
    }

    /// Brings the mirror up to date from the first of `urls` that answers.
    pub fn sync(&self, urls: &[String], observer: &dyn Observer) -> Result<(), MirrorError> {
        let mut last = None;
        for url in urls {
            match program::fetch(&self.path, url, &self.project, observer) {
                Ok(()) => return self.promote(observer),
                Err(e @ (MirrorError::NoGit(_) | MirrorError::Cancelled { .. })) => return Err(e),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| MirrorError::NoUpstream {
            what: self.project.clone(),
            advice: "the recipe's source names no url".to_owned(),
        }))
    }

    /// Moves what arrived to where it is served from, and never forgets what was there.
    fn promote(&self, observer: &dyn Observer) -> Result<(), MirrorError> {
        let repo = &self.repository;
        let incoming = repo.references_glob("refs/incoming/*").map_err(self.broken())?;
        for reference in incoming {
            let mut reference = reference.map_err(self.broken())?;
            let Ok(name) = reference.name().map(str::to_owned) else { continue };
            let Some(new) = reference.target() else { continue };
            let wanted = name.replacen("refs/incoming/", "refs/", 1);
            let old = repo.refname_to_id(&wanted).ok();
            let history = |id: Oid| wanted.replacen("refs/", "refs/history/", 1) + "/" + &id.to_string();
            match old {
                Some(old) if old == new => {}
                Some(old) if wanted.starts_with("refs/tags/") => {
                    repo.reference(&history(new), new, true, "tag moved upstream").map_err(self.broken())?;
                    observer.note(&format!("{}: upstream moved {wanted} from {old} to {new}", self.project));
                }
                Some(old) => {
                    if !repo.graph_descendant_of(new, old).unwrap_or(false) {
                        repo.reference(&history(old), old, true, "rewritten upstream")
                            .map_err(self.broken())?;
                    }
                    repo.reference(&wanted, new, true, "sync").map_err(self.broken())?;
                }
                None => {
                    repo.reference(&wanted, new, false, "sync").map_err(self.broken())?;
                }
            }
            reference.delete().map_err(self.broken())?;
        }
        Ok(())
    }

    /// The tag `name`, or `None` where the mirror has no such tag. A tag that upstream moved is an error.
    pub fn tag(&self, name: &str) -> Result<Option<TagBytes>, MirrorError> {
        let refname = format!("refs/tags/{name}");
        if !git2::Reference::is_valid_name(&refname) {
            return Ok(None);
        }
        let id = match self.repository.refname_to_id(&refname) {
            Ok(id) => id,
            Err(e) if e.code() == ErrorCode::NotFound => return Ok(None),
            Err(e) => return Err(self.broken()(e)),
        };
        let moved = self
            .repository
            .references_glob(&format!("refs/history/tags/{name}/*"))
            .and_then(|mut found| found.next().transpose())
            .map_err(self.broken())?;
        if let Some(moved) = moved {
            return Err(MirrorError::TagMoved {
                project: self.project.clone(),
                tag: name.to_owned(),
                old: id.to_string(),
                new: moved.target().map(|t| t.to_string()).unwrap_or_default(),
            });
        }
        let odb = self.repository.odb().map_err(self.broken())?;
        let object = odb.read(id).map_err(self.broken())?;
        let bytes = (object.kind() == ObjectType::Tag).then(|| object.data().to_vec());
        let commit = self
            .repository
            .find_object(id, None)
            .and_then(|o| o.peel(ObjectType::Commit))
            .map_err(self.broken())?;
        let raw = odb.read(commit.id()).map_err(self.broken())?;
        Ok(Some(TagBytes {
            name: name.to_owned(),
            id: id.to_string(),
            object: bytes,
            commit_id: commit.id().to_string(),
            commit: raw.data().to_vec(),
        }))
    }

    fn broken(&self) -> impl Fn(git2::Error) -> MirrorError + '_ {
        |source| MirrorError::Repository { path: self.path.clone(), source }
    }
}
