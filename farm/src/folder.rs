//! The paths in the data folder, except those that belong to the store.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::progress::Progress;

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

/// Creates the data folder for its owner alone. Closes an existing folder of ours to other users; its group may still
/// read it, if somebody set that.
pub fn private(data: &Path, progress: &dyn Progress) -> io::Result<()> {
    const NOT_OTHERS: u32 = 0o027;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data)?;
    let found = fs::metadata(data)?;
    let mode = found.permissions().mode() & 0o7777;
    if mode & NOT_OTHERS != 0 && found.uid() == rustix::process::geteuid().as_raw() {
        let closed = mode & !NOT_OTHERS;
        fs::set_permissions(data, fs::Permissions::from_mode(closed))?;
        let was = if mode & 0o022 == 0 { "read" } else { "change" };
        progress.note(&format!(
            "{}: other users of this machine could {was} the files in it; changed its mode from {mode:03o} to \
             {closed:03o}",
            data.display()
        ));
    }
    Ok(())
}
