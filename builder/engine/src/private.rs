//! Folders that only this program's user can enter.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::BuildError;

/// Makes the folder `path` with mode 0700, or takes it and sets that mode if it belongs to this user. Otherwise it does
/// so with a folder beside it, whose name ends in this user's id. So a data folder of one user works for another, and
/// neither builds from files that the other could have written.
pub(crate) fn private(path: &Path) -> Result<PathBuf, BuildError> {
    private_to(path, rustix::process::geteuid().as_raw())
}

fn private_to(path: &Path, me: u32) -> Result<PathBuf, BuildError> {
    if let Some(path) = claim(path, me)? {
        return Ok(path);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{me}"));
    let own = path.with_file_name(name);
    claim(&own, me)?.ok_or_else(|| {
        let owner = fs::symlink_metadata(&own).map_or(0, |m| m.uid());
        BuildError::Foreign { path: own.clone(), owner, me }
    })
}

/// Makes or takes the folder; `None` if it is not a folder of user `me`.
fn claim(path: &Path, me: u32) -> Result<Option<PathBuf>, BuildError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.map_err(|error| denied(path, me, error))?,
    }
    let found = fs::symlink_metadata(path).map_err(|error| denied(path, me, error))?;
    if !found.is_dir() || found.uid() != me {
        return Ok(None);
    }
    if found.mode() & 0o7777 != 0o700 {
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(BuildError::io(path))?;
    }
    Ok(Some(path.to_owned()))
}

/// The error for a folder that cannot be used; it names the owner of the folder above, if that one does not let us in.
fn denied(path: &Path, me: u32, error: io::Error) -> BuildError {
    let above = path.parent().unwrap_or(path);
    let owner = fs::symlink_metadata(above).map_or(me, |m| m.uid());
    if error.kind() == io::ErrorKind::PermissionDenied && owner != me {
        return BuildError::Foreign { path: above.to_owned(), owner, me };
    }
    BuildError::Io { path: path.to_owned(), source: error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).map_or(0, |m| m.mode() & 0o7777)
    }

    #[test]
    fn a_folder_that_others_could_reach_is_closed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("roots");
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("opened");
        assert_eq!(private(&path).expect("ours"), path);
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn what_is_not_a_folder_of_ours_is_left_alone_and_another_one_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("roots");
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("made");
        fs::set_permissions(&elsewhere, Permissions::from_mode(0o755)).expect("opened");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("linked");
        let own = private(&path).expect("beside it");
        assert_eq!(own, folder.path().join(format!("roots.{}", rustix::process::geteuid().as_raw())));
        assert_eq!((mode(&own), mode(&elsewhere)), (0o700, 0o755));
    }

    #[test]
    fn where_neither_folder_is_ours_the_error_names_the_folder_its_owner_and_the_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("roots");
        let (owner, another) = (rustix::process::geteuid().as_raw(), 4_000_000_000);
        private(&path).expect("ours");
        let error = private_to(&path, another).expect_err("not the other's").to_string();
        let own = folder.path().join("roots.4000000000");
        for word in [own.to_str().unwrap_or_default(), &format!("uid {owner}"), "--data"] {
            assert!(error.contains(word), "no {word:?} in: {error}");
        }
    }
}
