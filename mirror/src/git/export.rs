//! Writes a tree as one tar archive whose bytes depend only on the tree and the given time.

use std::io::{self, Write};

use git2::{ObjectType, Oid, Tree};

use super::GitMirror;
use crate::MirrorError;

/// How deep folders may nest: deeper ones are made to exhaust a stack.
const DEPTH: usize = 256;

/// What an export wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Files and links.
    pub files: u64,
    /// Bytes of their contents.
    pub bytes: u64,
}

impl GitMirror {
    /// Writes the tree of `commit_id` as a tar archive: in git's order, with owner 0, `mtime` everywhere, and paths
    /// below `source/`. A submodule is an error, because the signed tree does not hold its content.
    pub fn export(&self, commit_id: &str, mtime: i64, to: &mut dyn Write) -> Result<Exported, MirrorError> {
        let tree = Oid::from_str(commit_id)
            .and_then(|id| self.repository.find_commit(id))
            .and_then(|commit| commit.tree())
            .map_err(self.broken())?;
        let mut tar = tar::Builder::new(to);
        let mut total = Exported { files: 0, bytes: 0 };
        let mtime = u64::try_from(mtime).unwrap_or(0);
        self.export_tree(&tree, "source/", mtime, &mut tar, &mut total)?;
        tar.into_inner().and_then(Write::flush).map_err(MirrorError::io("the exported archive"))?;
        Ok(total)
    }

    fn export_tree(
        &self,
        tree: &Tree<'_>,
        prefix: &str,
        mtime: u64,
        tar: &mut tar::Builder<&mut dyn Write>,
        total: &mut Exported,
    ) -> Result<(), MirrorError> {
        if prefix.split('/').count() > DEPTH {
            return Err(self.malformed(prefix, &format!("folders that lie more than {DEPTH} deep")));
        }
        for entry in tree {
            let name = entry.name().map_err(|_| self.malformed(prefix, "a file name that is not UTF-8"))?;
            if name.is_empty() || name == "." || name == ".." || name.contains('/') {
                return Err(self.malformed(prefix, &format!("a file named {name:?}")));
            }
            let path = format!("{prefix}{name}");
            let object =
                |kind| entry.to_object(&self.repository).and_then(|o| o.peel(kind)).map_err(self.broken());
            let mut header = tar::Header::new_gnu();
            header.set_mtime(mtime);
            header.set_uid(0);
            header.set_gid(0);
            match (entry.kind(), entry.filemode()) {
                (Some(ObjectType::Tree), _) => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(0o755);
                    header.set_size(0);
                    tar.append_data(&mut header, format!("{path}/"), io::empty())
                        .map_err(MirrorError::io("the exported archive"))?;
                    if let Some(tree) = object(ObjectType::Tree)?.as_tree() {
                        self.export_tree(tree, &format!("{path}/"), mtime, tar, total)?;
                    }
                }
                (Some(ObjectType::Blob), mode) => {
                    let blob = object(ObjectType::Blob)?;
                    let content = blob.as_blob().map(git2::Blob::content).unwrap_or_default();
                    total.files += 1;
                    total.bytes += content.len() as u64;
                    if mode == 0o120_000 {
                        let target = std::str::from_utf8(content)
                            .map_err(|_| self.malformed(&path, "a link that is not UTF-8"))?;
                        header.set_entry_type(tar::EntryType::Symlink);
                        header.set_mode(0o777);
                        header.set_size(0);
                        tar.append_link(&mut header, path, target)
                            .map_err(MirrorError::io("the exported archive"))?;
                    } else {
                        header.set_mode(if mode & 0o100 != 0 { 0o755 } else { 0o644 });
                        header.set_size(content.len() as u64);
                        tar.append_data(&mut header, path, content)
                            .map_err(MirrorError::io("the exported archive"))?;
                    }
                }
                (Some(ObjectType::Commit), _) => {
                    return Err(
                        self.malformed(&path, "a submodule, whose content the signed tree does not hold")
                    );
                }
                _ => return Err(self.malformed(&path, "an entry of an unknown kind")),
            }
        }
        Ok(())
    }

    fn malformed(&self, path: &str, detail: &str) -> MirrorError {
        MirrorError::Malformed {
            what: format!("{path} in {}", self.project),
            expected: "a tree that can be built",
            detail: detail.to_owned(),
        }
    }
}
