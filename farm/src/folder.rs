//! Where what lies in the data folder, beside what the store keeps.

use std::path::{Path, PathBuf};

/// The data folder, from the root.
#[derive(Clone, Debug)]
pub struct DataFolder(PathBuf);

impl DataFolder {
    /// The data folder at this path, which must begin at the root: the sandbox changes folders.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Bare mirrors, `<project>.git`.
    pub fn git(&self) -> PathBuf {
        self.0.join("git")
    }

    /// The verified view of a project: only what its policy accepts.
    pub fn view(&self, project: &str) -> PathBuf {
        self.0.join("git/verified").join(format!("{project}.git"))
    }

    /// Project files that the operator added.
    pub fn projects(&self) -> PathBuf {
        self.0.join("projects")
    }

    /// Imported and found certificates.
    pub fn certificates(&self) -> PathBuf {
        self.0.join("certificates")
    }

    /// Which token service each registry first named.
    pub fn token_services(&self) -> PathBuf {
        self.0.join("token-services")
    }

    /// Scratch: safe to delete when nothing runs.
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Files that are only fetched in part.
    pub fn partial(&self) -> PathBuf {
        self.0.join("work/partial")
    }
}
