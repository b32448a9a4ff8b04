//! Reads what builders submitted, from a folder or from a commit in a repository.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use git2::{ObjectType, Odb, Oid, Repository};

use super::{ListKind, Submitted};
use crate::Refusal;
use crate::object::{TreeEntry, admit, tree_entries};

/// The largest file of a builder that is read, in bytes.
const LIMIT: u64 = 4 << 20;
/// The most builders that are read.
const BUILDERS: usize = 1000;
/// The most bytes that all files of a commit's folder may have; those of 24 builders of one version have 200,000.
const ALL: usize = 256 << 20;

/// Reads what the builders of `version` submitted below `folder`, ordered by builder.
pub fn read(folder: &Path, version: &str) -> Result<Vec<Submitted>, Refusal> {
    let base = folder.join(version);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Refusal::Io { path, source }
    };
    let entries =
        fs::read_dir(&base).map_err(io(&base))?.collect::<Result<Vec<_>, _>>().map_err(io(&base))?;
    let mut builders: Vec<String> = entries
        .iter()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    builders.sort();
    if builders.len() > BUILDERS {
        let detail = format!("it has {} builders, more than {BUILDERS}", builders.len());
        return Err(Refusal::Malformed { what: base.display().to_string(), detail });
    }
    let mut found = Vec::new();
    for builder in builders {
        for kind in ListKind::EACH {
            let path = base.join(&builder).join(kind.file());
            let Some(sums) = read_limited(&path)? else { continue };
            let signature = read_limited(&path.with_extension("SHA256SUMS.asc"))?.unwrap_or_default();
            found.push(Submitted { builder: builder.clone(), kind, sums, signature });
        }
    }
    Ok(found)
}

/// Reads a builder's file. Anything but a regular file within the size limit becomes an empty list, which does not
/// count, so that one builder's folder cannot stop the judgement of all others.
fn read_limited(path: &Path) -> Result<Option<Vec<u8>>, Refusal> {
    let io = |source| Refusal::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    if !file.metadata().map_err(io)?.is_file() {
        return Ok(Some(Vec::new()));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(Some(if bytes.len() as u64 > LIMIT { Vec::new() } else { bytes }))
}

/// Reads what the builders of `version` submitted in a commit of `repository`, from git's objects alone: a checkout is
/// neither needed nor trusted. `None` if the commit has no folder of that name.
pub fn read_commit(
    repository: &Path,
    commit: &str,
    version: &str,
) -> Result<Option<Vec<Submitted>>, Refusal> {
    let broken = |source| Refusal::Repository { path: repository.to_owned(), source };
    let opened = Repository::open(repository).map_err(broken)?;
    let commit = Oid::from_str(commit).and_then(|id| opened.find_commit(id)).map_err(broken)?;
    let objects = Objects { repository: &opened, odb: opened.odb().map_err(broken)?, broken: &broken };
    let mut folder = objects.folder(commit.tree_id(), "the root")?;
    for part in version.split('/') {
        let Some((id, ObjectType::Tree, _)) = folder.remove(part.as_bytes()) else { return Ok(None) };
        folder = objects.folder(id, version)?;
    }
    folder.retain(|_, (_, kind, _)| *kind == ObjectType::Tree);
    if folder.len() > BUILDERS {
        let detail = format!("it has {} builders, more than {BUILDERS}", folder.len());
        return Err(Refusal::Malformed { what: version.to_owned(), detail });
    }
    let mut found = Vec::new();
    for (name, (id, _, _)) in folder {
        // No pin names a builder whose name is not UTF-8.
        let Ok(builder) = String::from_utf8(name) else { continue };
        // One builder's folder must not stop the judgement of all others.
        let files = objects.folder(id, &builder).unwrap_or_default();
        for kind in ListKind::EACH {
            let Some(sums) = files.get(kind.file().as_bytes()) else { continue };
            let signature = files.get(format!("{}.asc", kind.file()).as_bytes());
            let signature = signature.map(|entry| objects.small(entry)).transpose()?.unwrap_or_default();
            found.push(Submitted { builder: builder.clone(), kind, sums: objects.small(sums)?, signature });
        }
        if found.iter().map(|s| s.sums.len() + s.signature.len()).sum::<usize>() > ALL {
            let detail = format!("its files have more than {ALL} bytes together");
            return Err(Refusal::Malformed { what: version.to_owned(), detail });
        }
    }
    Ok(Some(found))
}

struct Objects<'a> {
    repository: &'a Repository,
    odb: Odb<'a>,
    broken: &'a dyn Fn(git2::Error) -> Refusal,
}

impl Objects<'_> {
    /// The entries of a folder, by name.
    fn folder(&self, id: Oid, what: &str) -> Result<std::collections::BTreeMap<Vec<u8>, TreeEntry>, Refusal> {
        let tree = admit(&self.odb, id).and_then(|()| self.repository.find_tree(id)).map_err(self.broken)?;
        let odd = || Refusal::Malformed {
            what: what.to_owned(),
            detail: format!("its folder {id} is not sorted, or names something twice"),
        };
        tree_entries(&tree).ok_or_else(odd)
    }

    /// Reads a file; anything but a regular file within the size limit becomes empty bytes.
    fn small(&self, (id, kind, mode): &TreeEntry) -> Result<Vec<u8>, Refusal> {
        if *kind != ObjectType::Blob || *mode == 0o120_000 {
            return Ok(Vec::new());
        }
        // Ask for the size first: a pack of megabytes can hold a file of gigabytes.
        let (size, _) = self.odb.read_header(*id).map_err(self.broken)?;
        if size as u64 > LIMIT {
            return Ok(Vec::new());
        }
        Ok(self.odb.read(*id).map_err(self.broken)?.data().to_vec())
    }
}
