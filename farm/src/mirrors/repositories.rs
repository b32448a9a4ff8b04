//! The git repositories of a farm: its mirrors, and those that a person names by path.

use std::fs;
use std::path::{Path, PathBuf};

use hab_mirror::git::{GitMirror, is_project_name};

use crate::error::FarmError;
use crate::folder::DataFolder;

/// The bare mirrors in a data folder.
#[derive(Clone, Copy)]
pub struct Repositories<'a> {
    data: &'a DataFolder,
}

impl<'a> Repositories<'a> {
    /// The mirrors of this data folder.
    pub fn new(data: &'a DataFolder) -> Self {
        Self { data }
    }

    /// The folder of the mirrors, created if it is missing.
    pub fn folder(self) -> Result<PathBuf, FarmError> {
        let folder = self.data.git();
        fs::create_dir_all(&folder).map_err(FarmError::io(&folder))?;
        Ok(folder)
    }

    /// Opens the mirror of a project, and creates it if it is missing.
    pub fn open(self, project: &str) -> Result<GitMirror, FarmError> {
        Ok(GitMirror::open(&self.folder()?, project)?)
    }

    /// Opens the mirror of a project, which must exist.
    pub fn get(self, project: &str) -> Result<GitMirror, FarmError> {
        if is_project_name(project) && self.has(project) {
            self.open(project)
        } else {
            Err(FarmError::Usage(format!("{project} is not mirrored here")))
        }
    }

    /// Whether a project is mirrored here.
    pub fn has(self, project: &str) -> bool {
        self.path(project).is_dir()
    }

    /// The projects that are mirrored here, by name.
    pub fn names(self) -> Vec<String> {
        let entries = fs::read_dir(self.data.git()).into_iter().flatten().flatten();
        let names = entries.filter_map(|e| e.file_name().into_string().ok());
        let names = names.filter_map(|name| Some(name.strip_suffix(".git")?.to_owned()));
        let mut projects: Vec<String> = names.filter(|name| is_project_name(name)).collect();
        projects.sort();
        projects
    }

    /// The path of a project's verified view.
    pub fn view(self, project: &str) -> PathBuf {
        self.data.view(project)
    }

    /// Opens a repository that a person names by its path, or by the name of a project that is mirrored here.
    pub fn named(self, path: &Path) -> Result<GitMirror, FarmError> {
        let mirrored = self.path(&path.display().to_string());
        let is_name = path.components().count() == 1 && !path.exists() && mirrored.is_dir();
        if !is_name && !path.exists() {
            return Err(FarmError::missing(path));
        }
        Ok(GitMirror::existing(if is_name { &mirrored } else { path })?)
    }

    fn path(self, project: &str) -> PathBuf {
        self.data.git().join(format!("{project}.git"))
    }
}

/// The commit at the tip of a repository's default branch: that of HEAD, or else of its only branch, or else of `main`
/// or `master`.
pub fn default_tip(mirror: &GitMirror) -> Result<Option<String>, FarmError> {
    if let Some(tip) = mirror.commit_id("HEAD") {
        return Ok(Some(tip));
    }
    let refs = mirror.refs()?;
    let branches: Vec<&String> = refs.keys().filter(|name| name.starts_with("refs/heads/")).collect();
    let usual = ["refs/heads/main", "refs/heads/master"].into_iter().find(|name| refs.contains_key(*name));
    let name = match branches[..] {
        [one] => Some(one.as_str()),
        _ => usual,
    };
    Ok(name.and_then(|name| mirror.commit_id(name)))
}
