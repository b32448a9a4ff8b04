//! The paths in the data folder, except those that belong to the store.

use std::path::{Path, PathBuf};

/// The data folder, as an absolute path.
#[derive(Clone, Debug)]
pub struct DataFolder(PathBuf);

impl DataFolder {
    /// Takes an absolute path, because the sandbox changes its working directory.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folder of bare mirrors, `<project>.git`.
    pub fn git(&self) -> PathBuf {
        self.0.join("git")
    }

    /// The verified view of a project, which shows only what its policy accepts.
    pub fn view(&self, project: &str) -> PathBuf {
        self.0.join("git/verified").join(format!("{project}.git"))
    }

    /// Project files that the operator added.
    pub fn projects(&self) -> PathBuf {
        self.0.join("projects")
    }

    /// Certificates that were imported or found.
    pub fn certificates(&self) -> PathBuf {
        self.0.join("certificates")
    }

    /// The token service that each registry named first.
    pub fn token_services(&self) -> PathBuf {
        self.0.join("token-services")
    }

    /// Scratch: safe to delete when nothing runs.
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Files that are only partly fetched.
    pub fn partial(&self) -> PathBuf {
        self.0.join("work/partial")
    }
}
