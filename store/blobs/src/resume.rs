//! Saves the running hash of an upload beside its file, so that nothing is read again after a restart.
//!
//! A saved hash replaces reading the bytes, so it is used only if it certainly belongs to them:
//!
//! - The hash is written after the bytes are synced. No crash can leave it beside bytes that never reached the disk.
//! - It names its file (the upload's name and inode), the file's length, and its ctime, which only the kernel can set.
//!   Any later change to the file, also by a writer that was killed, makes the hash void.
//! - It is sealed with a key that only this folder has, so that a flipped bit or a planted file is detected.
//!
//! If any of this does not hold, the upload is read again, as if no hash were saved.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hab_oci::{Algorithm, Digest, Hasher};

use crate::error::Result;
use crate::files::remove_if_there;
use crate::id::UploadId;
use crate::tally::Tally;

/// Changes with the format of the file and with the meaning of `Hasher::state`.
const MAGIC: &[u8; 8] = b"hab-up-1";
/// The most bytes that are read: more than any state has.
const MOST: u64 = 1024;
const KEY: usize = 32;
/// The length of a seal: the hexadecimal digits of a sha256.
const SEAL: usize = 64;

/// Saves the running hash of an upload whose bytes are on disk.
pub(crate) fn save(folder: &Path, id: &UploadId, file: &File, tally: &Tally) -> io::Result<()> {
    let body = body(file, tally)?;
    let seal = seal(&key(folder)?, id, &body);
    let new = folder.join(format!("{id}.new"));
    fs::write(&new, [body.as_slice(), seal.as_bytes()].concat())?;
    // Not synced: if a crash loses the file, the upload is read again.
    fs::rename(new, path(folder, id))
}

/// The saved running hash, if it belongs to this file as it is now.
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
    // If the file, its length and its times are the same, saving now would give the same bytes.
    (body(file, &tally).ok()?.as_slice() == kept).then_some(tally)
}

/// Removes the saved hash, if there is one.
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

/// The saved bytes without the seal: algorithm, inode, length, times and the hasher's state. Every field but the last
/// has a fixed length.
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

/// sha256 of the key, the name and the body. Nothing can be appended to the message (length extension), because its
/// fields fix its length.
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
                // A crash cut the key short. Uploads that it sealed are read again.
                Err(_) => fs::remove_file(&path)?,
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let mut key = [0; KEY];
        rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
        // Readable by its owner only, as temporary files are. If two processes make a key, the first one's stays.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&key)?;
        let _ = file.persist_noclobber(&path);
    }
    Err(io::ErrorKind::InvalidData.into())
}
