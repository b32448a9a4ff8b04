//! Reads tags, with every value that they were seen to have.

use git2::{ErrorCode, ObjectType, Oid};

use super::GitMirror;
use super::journal::{Change, Journal};
use crate::MirrorError;

/// The largest tag or commit object that is read, in bytes.
const OBJECT_LIMIT: usize = 4 << 20;

/// An annotated tag as it is in the repository: bytes with names, **unverified**.
#[derive(Clone, Debug)]
pub struct TagBytes {
    /// The name of the tag, without `refs/tags/`.
    pub name: String,
    /// The object id that the ref names.
    pub id: String,
    /// The tag object as git stores it, signature included. `None` for a lightweight tag.
    pub object: Option<Vec<u8>>,
    /// The id of the commit that the tag leads to.
    pub commit_id: String,
    /// That commit object as git stores it.
    pub commit: Vec<u8>,
}

impl GitMirror {
    /// Every value that the tag `name` was ever seen to have, the mirrored one first. A tag that made room for another
    /// ref, because upstream deleted it, still has its value.
    pub fn tag(&self, name: &str) -> Result<Vec<TagBytes>, MirrorError> {
        let refname = format!("refs/tags/{name}");
        if !git2::Reference::is_valid_name(&refname) {
            return Ok(Vec::new());
        }
        let journal = self.journal()?;
        let first = match self.repository.refname_to_id(&refname) {
            Ok(id) => Some(id),
            Err(e) if e.code() == ErrorCode::NotFound => {
                journal.displaced(&refname).and_then(|id| Oid::from_str(id).ok())
            }
            Err(e) => return Err(self.broken()(e)),
        };
        let Some(first) = first else { return Ok(Vec::new()) };
        let mut ids = self.other_values(&journal, &refname)?;
        ids.retain(|id| *id != first);
        ids.insert(0, first);
        ids.into_iter().map(|id| self.tag_bytes(name, id)).collect()
    }

    /// Other values that a ref was seen to have and that no person has decided about.
    fn other_values(&self, journal: &Journal, refname: &str) -> Result<Vec<Oid>, MirrorError> {
        let mut ids: Vec<Oid> = Vec::new();
        let mut add = |id: Oid| {
            if !ids.contains(&id) {
                ids.push(id);
            }
        };
        let decided = journal.about(refname).any(|e| e.kind == Change::Accepted);
        if !decided {
            let folder = format!("{}/", refname.replacen("refs/", "refs/history/", 1));
            for reference in self.repository.references_glob(&format!("{folder}*")).map_err(self.broken())? {
                let reference = reference.map_err(self.broken())?;
                // A star matches slashes too, and names with a further folder belong to another ref.
                let own = |name: &str| name.strip_prefix(&folder).is_some_and(|rest| !rest.contains('/'));
                if reference.name().is_ok_and(own)
                    && let Some(id) = reference.target()
                {
                    add(id);
                }
            }
        }
        // After a person's decision, only values seen since then are undecided.
        for entry in journal.undecided(refname) {
            if let Some(id) = entry.new.as_deref().and_then(|id| Oid::from_str(id).ok())
                && (decided || entry.kind.freezes())
                && (decided || self.holds(id)?)
            {
                add(id);
            }
        }
        Ok(ids)
    }

    /// The tag `name` with the value `id`.
    pub fn tag_at(&self, name: &str, id: &str) -> Result<TagBytes, MirrorError> {
        self.tag_bytes(name, Oid::from_str(id).map_err(self.broken())?)
    }

    fn tag_bytes(&self, name: &str, id: Oid) -> Result<TagBytes, MirrorError> {
        let what = || format!("tag {name} of {}", self.project);
        let (kind, object) = self.small(id)?;
        let commit = self.repository.find_object(id, None).map_err(|e| self.unreadable(what(), &e))?;
        let commit = commit.peel(ObjectType::Commit).map_err(|e| match e.code() {
            ErrorCode::NotFound => self.unreadable(format!("the target of {}", what()), &e),
            _ => MirrorError::Malformed {
                what: what(),
                expected: "a tag of a commit",
                detail: format!("{id} leads to something else"),
            },
        })?;
        let commit = commit.id();
        Ok(TagBytes {
            name: name.to_owned(),
            id: id.to_string(),
            object: (kind == ObjectType::Tag).then_some(object),
            commit_id: commit.to_string(),
            commit: self.small(commit)?.1,
        })
    }

    /// A tag or commit object. Asks for its size first: a pack of megabytes can hold an object of gigabytes.
    pub(super) fn small(&self, id: Oid) -> Result<(ObjectType, Vec<u8>), MirrorError> {
        let what = || format!("object {id} of {}", self.project);
        let odb = self.repository.odb().map_err(self.broken())?;
        let (size, kind) = odb.read_header(id).map_err(|e| self.unreadable(what(), &e))?;
        if size > OBJECT_LIMIT {
            return Err(MirrorError::Malformed {
                what: what(),
                expected: "a tag or commit",
                detail: format!("it has {size} bytes, more than the {OBJECT_LIMIT} allowed"),
            });
        }
        Ok((kind, odb.read(id).map_err(|e| self.unreadable(what(), &e))?.data().to_vec()))
    }
}
