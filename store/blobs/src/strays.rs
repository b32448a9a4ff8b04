//! Files that the catalog does not know, set aside in `<data>/blobs/strays/`, where nothing serves them.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hab_oci::Digest;

use crate::damage::Suspect;
use crate::error::{Error, Result};
use crate::files::{ensure_folder_of, sync_folder_of};
use crate::folder::Blobs;
use crate::loose::ExclusiveLock;

/// A file that was set aside because the catalog does not know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Its digest by its name.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// How long ago it was last written.
    pub age: Duration,
}

impl Blobs {
    fn stray_folder(&self) -> PathBuf {
        self.root().join("strays")
    }

    fn stray(&self, digest: &Digest) -> PathBuf {
        self.stray_folder().join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    /// Moves a file to `strays/`, if it is still the one that was looked at. Returns whether it moved the file.
    pub fn set_stray_aside(&self, digest: &Digest, suspect: &Suspect, alone: &ExclusiveLock) -> Result<bool> {
        self.move_away(digest, suspect, &self.stray(digest), alone)
    }

    /// All strays, sorted by digest.
    pub fn strays(&self) -> Result<Vec<Stray>> {
        let folder = self.stray_folder();
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let entry = entry.map_err(Error::io("list", &folder))?;
            let name = entry.file_name().to_string_lossy().replacen('-', ":", 1);
            let Ok(digest) = name.parse::<Digest>() else { continue };
            let metadata = entry.metadata().map_err(Error::io("look at", &entry.path()))?;
            let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            found.push(Stray { digest, size: metadata.len(), age: age.unwrap_or_default() });
        }
        found.sort_by(|a, b| a.digest.cmp(&b.digest));
        Ok(found)
    }

    /// Removes the strays that were last written at least `older` ago, and returns them.
    pub fn remove_strays(&self, older: Duration) -> Result<Vec<Stray>> {
        let mut gone = self.strays()?;
        gone.retain(|stray| stray.age >= older);
        for stray in &gone {
            let path = self.stray(&stray.digest);
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(gone)
    }

    /// Moves every stray back to the path of its digest, and returns how many there were. Where a file is there
    /// already, that one stays.
    pub fn bring_back_strays(&self) -> Result<usize> {
        let strays = self.strays()?;
        for stray in &strays {
            let (from, to) = (self.stray(&stray.digest), self.path(&stray.digest));
            ensure_folder_of(&to)?;
            match fs::hard_link(&from, &to) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io("link", &to)(e)),
                _ => {}
            }
            sync_folder_of(&to)?;
            fs::remove_file(&from).map_err(Error::io("remove", &from))?;
        }
        Ok(strays.len())
    }
}
