//! Finds files that no longer match their digest, and moves them to `damaged/`.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hab_oci::{Algorithm, Digest};

use crate::error::{Error, Result};
use crate::files::sync_folder_of;
use crate::folder::Blobs;
use crate::loose::ExclusiveLock;

/// One of the folders that hold blobs, such as `sha256/ab`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripe {
    /// The algorithm of the digests in the folder.
    pub algorithm: Algorithm,
    byte: u8,
}

/// A blob's file that a scrub reads.
#[derive(Debug)]
pub struct Suspect {
    /// The open file.
    pub file: File,
    inode: u64,
    changed: Option<SystemTime>,
}

impl Stripe {
    /// All folders, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |algorithm| (0..=u8::MAX).map(move |byte| Self { algorithm, byte });
        [Algorithm::Sha256, Algorithm::Sha512].into_iter().flat_map(of)
    }

    /// What the digests in the folder begin with, such as `sha256:ab`.
    pub fn prefix(self) -> String {
        format!("{}:{:02x}", self.algorithm.name(), self.byte)
    }
}

impl Suspect {
    /// Whether the file was last changed longer ago than `than`.
    pub fn is_older(&self, than: Duration) -> bool {
        self.changed.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > than)
    }
}

impl Blobs {
    /// The digests that have a file in a folder.
    pub fn list(&self, stripe: Stripe) -> Result<Vec<Digest>> {
        let folder = self.shared.root.join(stripe.prefix().replace(':', "/"));
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("list", &folder)(e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::io("list", &folder))?.file_name();
            // Names that are no digests are not this program's files; skip them.
            let digest = format!("{}:{}", stripe.algorithm.name(), name.to_string_lossy()).parse::<Digest>();
            found.extend(digest.ok().filter(|digest| digest.to_string().starts_with(&stripe.prefix())));
        }
        found.sort();
        Ok(found)
    }

    /// Opens a blob's file for a scrub; `None` if there is no such file.
    pub fn suspect(&self, digest: &Digest) -> Result<Option<Suspect>> {
        let path = self.path(digest);
        let Some(blob) = self.open_blob(digest)? else { return Ok(None) };
        let found = blob.file.metadata().map_err(Error::io("look at", &path))?;
        Ok(Some(Suspect { file: blob.file, inode: found.ino(), changed: found.modified().ok() }))
    }

    /// Reads up to `length` bytes at the offset `at`, none at the end; `None` if the disk reports an I/O error.
    pub fn read_some(
        &self,
        digest: &Digest,
        suspect: &Suspect,
        at: u64,
        length: usize,
    ) -> Result<Option<Vec<u8>>> {
        const EIO: i32 = 5;
        // Drop the range from the page cache: a scrub must read the disk, and pulls need the cache. A failure is
        // harmless.
        let forget = || {
            let range = NonZeroU64::new(length as u64);
            let _ = rustix::fs::fadvise(&suspect.file, at, range, rustix::fs::Advice::DontNeed);
        };
        forget();
        let mut chunk = vec![0; length];
        let read = suspect.file.read_at(&mut chunk, at);
        forget();
        match read {
            Ok(length) => {
                chunk.truncate(length);
                Ok(Some(chunk))
            }
            Err(e) if e.raw_os_error() == Some(EIO) => Ok(None),
            Err(e) => Err(Error::io("read", &self.path(digest))(e)),
        }
    }

    /// Moves a file that does not match its digest to `damaged/`, unless another file has replaced it since. Returns
    /// whether it moved the file.
    pub fn set_aside(&self, digest: &Digest, suspect: &Suspect, alone: &ExclusiveLock) -> Result<bool> {
        self.move_away(digest, suspect, &self.damaged(digest), alone)
    }

    /// Moves a file to the path `to`, unless another file has replaced it since. Returns whether it moved the file.
    pub fn move_away(
        &self,
        digest: &Digest,
        suspect: &Suspect,
        to: &Path,
        _alone: &ExclusiveLock,
    ) -> Result<bool> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(found) if found.ino() == suspect.inode => {}
            Ok(_) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("look at", &path)(e)),
        }
        fs::rename(&path, to).map_err(Error::io("rename a file to", to))?;
        sync_folder_of(to)?;
        sync_folder_of(&path)?;
        Ok(true)
    }
}
