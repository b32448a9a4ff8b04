//! The running hash of an upload, beside its file: what makes a restart cost nothing.
//!
//! To believe it means not to read the bytes again, so it is believed only where it is certain to be of these bytes:
//!
//! - It is written after the bytes were synced. No crash can leave it beside bytes that never reached the disk.
//! - It says which file it is of (the upload's name and inode), how long that was, and when it was last changed, which
//!   nobody but the kernel can set (ctime). Whatever touched the file since then, a killed writer too, makes it void.
//! - It is sealed with a key that this folder alone has, so that neither a flipped bit nor a file that somebody put there
//!   is taken for one of ours.
//!
//! Anything else about it means that the upload is read again, as if there were none.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hab_oci::{Algorithm, Digest, Hasher};

use crate::error::Result;
use crate::files::remove_if_there;
use crate::id::UploadId;
use crate::tally::Tally;

/// Changes with the format and with what `Hasher::state` means.
const MAGIC: &[u8; 8] = b"hab-up-1";
/// Larger than any state, and no more is read.
const MOST: u64 = 1024;
const KEY: usize = 32;
/// A seal's length: hexadecimal digits of a sha256.
const SEAL: usize = 64;

/// Keeps the running hash of an upload whose bytes are on disk.
pub(crate) fn save(folder: &Path, id: &UploadId, file: &File, tally: &Tally) -> io::Result<()> {
    let body = body(file, tally)?;
    let seal = seal(&key(folder)?, id, &body);
    let new = folder.join(format!("{id}.new"));
    fs::write(&new, [body.as_slice(), seal.as_bytes()].concat())?;
    // Not synced: where a crash loses it, the upload is read again.
    fs::rename(new, path(folder, id))
}

/// The running hash that was kept, if it is of this file as it is now.
pub(crate) fn load(folder: &Path, id: &UploadId, file: &File) -> Option<Tally> {
    let mut bytes = Vec::new();
    File::open(path(folder, id)).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    let (kept, sealed) = bytes.split_at_checked(bytes.len().checked_sub(SEAL)?)?;
    if seal(&key(folder).ok()?, id, kept).as_bytes() != sealed {
        return None;
    }
    let state = kept.get(body_start()..)?;
    let algorithm =
        [Algorithm::Sha256, Algorithm::Sha512].into_iter().find(|a| kept.get(8) == Some(&code(*a)))?;
    let size = file.metadata().ok()?.len();
    let tally = Tally { hasher: Hasher::resume(algorithm, size, state)?, size };
    // Of this file, this long, unchanged since: then it is what would be written now.
    (body(file, &tally).ok()?.as_slice() == kept).then_some(tally)
}

/// Removes what was kept, if anything was.
pub(crate) fn forget(folder: &Path, id: &UploadId) -> Result<()> {
    remove_if_there(&path(folder, id))?;
    remove_if_there(&folder.join(format!("{id}.new")))
}

fn path(folder: &Path, id: &UploadId) -> PathBuf {
    folder.join(format!("{id}.state"))
}

const fn code(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    }
}

const fn body_start() -> usize {
    MAGIC.len() + 1 + 6 * 8
}

/// Which file, how long, last changed when, and the state: every field but the last has a fixed length.
fn body(file: &File, tally: &Tally) -> io::Result<Vec<u8>> {
    let found = file.metadata()?;
    if found.len() != tally.size {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = MAGIC.to_vec();
    body.push(code(tally.hasher.algorithm()));
    for number in [found.ino(), tally.size] {
        body.extend(number.to_le_bytes());
    }
    for time in [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()] {
        body.extend(time.to_le_bytes());
    }
    body.extend(tally.hasher.state());
    Ok(body)
}

/// A key before a message whose length follows from what it says it is: nothing can be added to it.
fn seal(key: &[u8; KEY], id: &UploadId, body: &[u8]) -> String {
    let digest = Digest::of(&[key, id.as_str().as_bytes(), body].concat());
    digest.hex().to_owned()
}

/// The folder's key, made when it is first needed.
fn key(folder: &Path) -> io::Result<[u8; KEY]> {
    let path = folder.join("key");
    for _ in 0..3 {
        match fs::read(&path) {
            Ok(bytes) => match bytes.try_into() {
                Ok(key) => return Ok(key),
                // Cut by a crash: what it sealed is read again.
                Err(_) => fs::remove_file(&path)?,
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let mut key = [0; KEY];
        rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
        // For its owner alone, as temporary files are. Of two processes, the first one's stays.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&key)?;
        let _ = file.persist_noclobber(&path);
    }
    Err(io::ErrorKind::InvalidData.into())
}
