//! Bare mirrors of git repositories.
//!
//! The git program fetches, because it speaks every transport and indexes packs faster than the libraries; libgit2
//! reads. Only tags are mirrored yet. What arrives is held under `refs/incoming/` until it is compared with what is
//! here: a tag never moves, and another value of it is kept beside, under `refs/history/`.

mod export;
mod journal;
mod program;
mod tree;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use git2::{ErrorCode, ObjectType, Oid, Repository};

pub use export::Exported;
pub use journal::{Change, Entry, Journal};
pub use tree::Files;

use journal::Seen;

use crate::{MirrorError, Observer};

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

    /// Opens the repository at `path`, bare or not, to read it. A person's own repository is judged like any other.
    pub fn existing(path: &Path) -> Result<Self, MirrorError> {
        let broken = |source| MirrorError::Repository { path: path.to_owned(), source };
        let repository = Repository::open(path).map_err(broken)?;
        let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let project = name.strip_suffix(".git").filter(|stem| !stem.is_empty()).unwrap_or(&name).to_owned();
        Ok(Self { project, path: repository.path().to_owned(), repository })
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

    /// Brings the mirror's tags up to date from the first of `urls` that answers. One process at a time; another waits.
    pub fn sync(&self, urls: &[String], observer: &dyn Observer) -> Result<(), MirrorError> {
        let _alone = self.lock(observer)?;
        program::clean(&self.path)?;
        let mut last = None;
        for url in urls {
            // What a run that was killed left there could only be in the way.
            for reference in self.repository.references_glob("refs/incoming/*").map_err(self.broken())? {
                reference.and_then(|mut r| r.delete()).map_err(self.broken())?;
            }
            match program::fetch(&self.path, url, &self.project, observer) {
                Ok(()) => return self.promote(url, observer),
                Err(e @ (MirrorError::NoGit(_) | MirrorError::Cancelled { .. })) => return Err(e),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| MirrorError::NoUpstream {
            what: self.project.clone(),
            advice: "the recipe's source names no url".to_owned(),
        }))
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

    /// Whether an object is here, of whatever kind.
    pub fn has(&self, id: &str) -> Result<bool, MirrorError> {
        let id = Oid::from_str(id).map_err(self.broken())?;
        Ok(self.repository.odb().map_err(self.broken())?.exists(id))
    }

    /// Moves what arrived to where it is read from. A tag that is here already stays; another value of it is kept
    /// beside, under `refs/history/`. What changed is in the journal before a ref moves.
    fn promote(&self, upstream: &str, observer: &dyn Observer) -> Result<(), MirrorError> {
        let incoming = self.targets("refs/incoming/")?;
        let here = self.targets("refs/tags/")?;
        let mut journal = self.journal()?;
        let changes = changes(&here, &incoming, &journal);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        journal.append(&without_user(upstream), i64::try_from(now).unwrap_or(i64::MAX), &changes)?;
        let repo = &self.repository;
        for (name, new) in incoming {
            let wanted = name.replacen("refs/incoming/", "refs/", 1);
            let kept = match here.get(&wanted) {
                Some(old) if *old == new => Ok(()),
                Some(_) => {
                    let beside = wanted.replacen("refs/", "refs/history/", 1) + "/" + &new.to_string();
                    repo.reference(&beside, new, true, "another value of a tag").map(drop)
                }
                None => repo.reference(&wanted, new, false, "sync").map(drop),
            };
            // One name that cannot be kept (a folder where a tag was) must not hide all others.
            if let Err(e) = kept {
                observer.note(&format!("{}: {wanted} is not mirrored: {}", self.project, e.message()));
            }
            repo.find_reference(&name).and_then(|mut r| r.delete()).map_err(self.broken())?;
        }
        Ok(())
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
        let beside = format!("refs/history/tags/{name}/*");
        for reference in self.repository.references_glob(&beside).map_err(self.broken())? {
            ids.extend(reference.map_err(self.broken())?.target());
        }
        ids.into_iter().map(|id| self.tag_bytes(name, id)).collect()
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

/// What an upstream's tags, as they arrived, say that the ones here do not.
fn changes(here: &BTreeMap<String, Oid>, incoming: &BTreeMap<String, Oid>, journal: &Journal) -> Vec<Seen> {
    let mut changes = Vec::new();
    let mut seen = |reference: &str, kind, old: Option<Oid>, new: Option<Oid>| {
        let text = |id: Option<Oid>| id.map(|id| id.to_string());
        changes.push(Seen { reference: reference.to_owned(), kind, old: text(old), new: text(new) });
    };
    for (name, new) in incoming {
        let wanted = name.replacen("refs/incoming/", "refs/", 1);
        let was = || journal.last(&wanted).map(|e| e.kind);
        match here.get(&wanted) {
            None => seen(&wanted, Change::New, None, Some(*new)),
            Some(old) if old != new => seen(&wanted, Change::TagMoved, Some(*old), Some(*new)),
            Some(old) if matches!(was(), Some(Change::TagMoved | Change::Deleted)) => {
                seen(&wanted, Change::Restored, Some(*old), Some(*new));
            }
            Some(_) => {}
        }
    }
    for (name, old) in here {
        if !incoming.contains_key(&name.replacen("refs/", "refs/incoming/", 1)) {
            seen(name, Change::Deleted, Some(*old), None);
        }
    }
    changes
}

/// An upstream's address without whatever a person put before the host: a journal is for everybody to read.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host = rest.find('/').unwrap_or(rest.len());
    let at = rest[..host].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_without_its_password() {
        for (url, kept) in [
            ("https://me:secret@host.invalid/a@b.git", "https://host.invalid/a@b.git"),
            ("https://host.invalid/a.git", "https://host.invalid/a.git"),
            ("/srv/a.git", "/srv/a.git"),
        ] {
            assert_eq!(without_user(url), kept);
        }
    }
}
