//! Writes a stream into a finished blob.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hab_oci::{Algorithm, Digest};
use tempfile::NamedTempFile;

use crate::append::append;
use crate::error::{Error, Result};
use crate::files::{sync_folder_of, write_ahead};
use crate::folder::Blobs;
use crate::loose::{Keeping, keep_for_good};
use crate::tally::Tally;

/// A blob that is being written: its bytes are hashed as they come, and its temporary file is removed on drop.
///
/// ```
/// # use std::io::Write;
/// # let folder = tempfile::tempdir()?;
/// let blobs = hab_blobs::Blobs::open(folder.path())?;
/// let mut writer = blobs.writer()?;
/// writer.write_all(b"abc")?;
/// let (digest, size) = writer.commit(None)?;
/// assert_eq!((digest, size), (hab_oci::Digest::of(b"abc"), 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BlobWriter {
    blobs: Blobs,
    temp: NamedTempFile,
    tally: Tally,
}

impl BlobWriter {
    pub(crate) fn create(blobs: Blobs, algorithm: Algorithm) -> Result<Self> {
        let folder = blobs.tmp();
        loop {
            let temp = tempfile::Builder::new()
                .prefix("")
                .rand_bytes(16)
                .tempfile_in(&folder)
                .map_err(Error::io("create a file in", &folder))?;
            temp.as_file().lock().map_err(Error::io("lock", temp.path()))?;
            // Another process that just opened the folder may have removed the file before it was locked.
            let links = temp.as_file().metadata().map_err(Error::io("look at", temp.path()))?.nlink();
            if links > 0 {
                return Ok(Self { blobs, temp, tally: Tally::new(algorithm) });
            }
        }
    }

    /// How many bytes were written so far.
    pub fn size(&self) -> u64 {
        self.tally.size
    }

    /// Opens the file to read the bytes so far; the handle stays valid after the blob is finished.
    pub fn reader(&self) -> Result<File> {
        File::open(self.temp.path()).map_err(Error::io("open", self.temp.path()))
    }

    /// Writes all of `bytes`; unlike [`Write::write_all`], a full disk is an error of this crate.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(Error::io("write", self.temp.path()))
    }

    /// Writes all parts in order and hashes them at the same time. If this fails, none of them is written.
    pub fn add_parts<B: AsRef<[u8]> + Send + Sync + 'static>(&mut self, parts: Vec<B>) -> Result<()> {
        let written = append(self.temp.as_file_mut(), &mut self.tally, parts);
        written.map_err(Error::io("write", self.temp.path()))
    }

    /// Finishes the blob and stores it for good. Afterwards it is on disk under its digest, or it does not exist.
    ///
    /// With `expected`, bytes of another digest are [`Error::WrongDigest`]. A blob that exists already is not written
    /// again.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        self.finish(expected, Keeping::ForGood, false)
    }

    /// As [`BlobWriter::commit`], for good or loose; with `replace` it overwrites a blob that exists already.
    pub fn finish(
        mut self,
        expected: Option<&Digest>,
        keeping: Keeping,
        replace: bool,
    ) -> Result<(Digest, u64)> {
        let size = self.tally.size;
        let digest = check(self.temp.as_file_mut(), self.tally, expected)?;
        let target = self.blobs.path(&digest);
        let _pin = self.blobs.pin([&digest])?;
        if !replace && is_kept(&target, size, keeping)? {
            return sync_folder_of(&target).map(|()| (digest, size));
        }
        seal(self.temp.as_file(), self.temp.path(), self.blobs.keeping(&digest, keeping)?)?;
        self.temp.persist(&target).map_err(|e| Error::io("rename a file to", &target)(e.error))?;
        sync_folder_of(&target)?;
        Ok((digest, size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.temp.write(bytes)?;
        let before = self.tally.size;
        self.tally.add(&bytes[..n]);
        write_ahead(self.temp.as_file(), before, self.tally.size);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the digest of the written bytes, or an error if it is not the expected one.
pub(crate) fn check(file: &mut File, tally: Tally, expected: Option<&Digest>) -> Result<Digest> {
    let found = match expected {
        // The stream was hashed by another algorithm than that of the expected digest.
        Some(digest) if digest.algorithm() != tally.hasher.algorithm() => {
            let again = Tally::of_file(file, digest.algorithm());
            again.map_err(Error::io("read again", Path::new("what was written")))?.hasher.finish()
        }
        _ => tally.hasher.finish(),
    };
    match expected {
        Some(expected) if *expected != found => Err(Error::WrongDigest { expected: expected.clone(), found }),
        _ => Ok(found),
    }
}

/// Whether the blob exists already. If it does, makes it stay for as long as `keeping` says. A file of another size
/// cannot hold the same bytes, so it does not count and is replaced.
pub(crate) fn is_kept(target: &Path, size: u64, keeping: Keeping) -> Result<bool> {
    let kept = match fs::metadata(target) {
        Ok(metadata) => metadata.len() == size,
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(Error::io("look at", target)(e)),
    };
    if kept && keeping == Keeping::ForGood {
        keep_for_good(target)?;
    }
    Ok(kept)
}

/// Makes a file read-only and syncs it, before it is renamed to its place.
pub(crate) fn seal(file: &File, path: &Path, keeping: Keeping) -> Result<()> {
    file.set_permissions(keeping.permissions()).map_err(Error::io("make read-only", path))?;
    file.sync_all().map_err(Error::io("write", path))
}
