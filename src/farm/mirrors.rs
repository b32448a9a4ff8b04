//! What is mirrored, and whether it is still what it was: `hab-build mirror`.

use std::sync::Arc;

use hab_mirror::git::{Entry, GitMirror};
use hab_mirror::{Keep as _, MirrorError};

use super::sources::JOURNAL;
use super::{Farm, FarmError};

/// A mirrored project.
#[derive(Debug, serde::Serialize)]
pub struct MirrorRow {
    /// Its name.
    pub project: String,
    /// How many changes its journal has.
    pub entries: usize,
    /// When the newest was seen, in unix seconds.
    pub newest: Option<i64>,
    /// The digest of its journal's last line.
    pub head: hab_oci::Digest,
}

impl Farm {
    /// The projects that are mirrored here, by name.
    pub fn mirrors(&self) -> Result<Vec<MirrorRow>, FarmError> {
        let entries = std::fs::read_dir(self.options.data.join("git")).into_iter().flatten().flatten();
        let names = entries.filter_map(|e| e.file_name().into_string().ok());
        let mut projects: Vec<String> =
            names.filter_map(|name| Some(name.strip_suffix(".git")?.to_owned())).collect();
        projects.sort();
        projects.iter().map(|project| row(&self.mirrored(project)?)).collect()
    }

    /// Every change that was seen of a project's refs, the oldest first.
    pub fn mirror_log(&self, project: &str) -> Result<Vec<Entry>, FarmError> {
        Ok(self.mirrored(project)?.journal()?.entries().to_vec())
    }

    /// Checks that a project's journal is whole, that its end is where it was, and that every object it names is here.
    pub fn mirror_verify(&self, project: &str) -> Result<MirrorRow, FarmError> {
        let mirror = self.mirrored(project)?;
        let journal = mirror.journal()?;
        let broken = |detail: String| MirrorError::Malformed {
            what: format!("the ref journal of {project}"),
            expected: "the one that was written here",
            detail,
        };
        let kept = |source| MirrorError::Keep { what: project.to_owned(), source };
        if let Some(head) = self.keep.latest(JOURNAL, project).map_err(kept)?
            && !journal.contains(&head)
        {
            return Err(broken(format!("its end is gone: it once ended with line {head}")).into());
        }
        for entry in journal.entries() {
            for id in [&entry.old, &entry.new].into_iter().flatten() {
                if !mirror.has(id)? {
                    let what = format!("object {id} of {} is not here any more", entry.reference);
                    return Err(broken(what).into());
                }
            }
        }
        row(&mirror)
    }

    /// What is served beside the registry.
    pub fn served(&self) -> hab_mirror_server::Mirror {
        let limits = hab_mirror_server::Limits::default();
        hab_mirror_server::Mirror::new(Arc::new(self.keep.clone()), self.options.data.join("git"), limits)
    }

    pub(super) fn mirrored(&self, project: &str) -> Result<GitMirror, FarmError> {
        let known = project.parse::<hab_recipe::RecipeName>().is_ok()
            && self.options.data.join("git").join(format!("{project}.git")).is_dir();
        if known {
            self.git(project)
        } else {
            Err(FarmError::Usage(format!("{project} is not mirrored here")))
        }
    }
}

fn row(mirror: &GitMirror) -> Result<MirrorRow, FarmError> {
    let journal = mirror.journal()?;
    Ok(MirrorRow {
        project: mirror.project().to_owned(),
        entries: journal.entries().len(),
        newest: journal.entries().last().map(|e| e.at),
        head: journal.head().clone(),
    })
}
