//! The key that signs issued tokens and verifies them.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use hab_trusted_file::Readers;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::error::AccessError;

/// An HMAC key of 256 random bits. Anyone who has it can issue a token for any account.
#[derive(Clone)]
pub(crate) struct Key(Hmac<Sha256>);

/// The largest key file that is read, in bytes; a right one has 65.
const MOST: u64 = 1024;

/// The key's file in a data folder.
pub(crate) fn path_in(data: &Path) -> PathBuf {
    data.join("registry.key")
}

/// The file of revoked ids in a data folder.
pub(crate) fn revoked_in(data: &Path) -> PathBuf {
    data.join("registry.revoked")
}

impl Key {
    /// A random key that only this process knows.
    pub(crate) fn random() -> Result<Self, AccessError> {
        random().map(Self::of)
    }

    fn of(key: [u8; 32]) -> Self {
        // HMAC fills a key that is shorter than a block with zeroes.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&key);
        Self(Hmac::new(&block.into()))
    }

    /// Reads the data folder's key. Makes it if there is none yet, readable by its owner alone.
    pub(crate) fn open(data: &Path) -> Result<Self, AccessError> {
        let path = path_in(data);
        if !path.exists() {
            Self::make(data, &path)?;
        }
        let text = hab_trusted_file::read_text(&path, Readers::Nobody, MOST)?;
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim(), &mut key).map_err(|_| AccessError::Key { path })?;
        Ok(Self::of(key))
    }

    /// Writes the key to a temporary file and links it into place, so that two processes that make one at the same time
    /// get the same key, and nobody reads half of one.
    fn make(data: &Path, path: &Path) -> Result<(), AccessError> {
        let failed = |source| AccessError::Write { path: path.to_owned(), source };
        let beside = data.join(format!("registry.key.{}", hex::encode(random::<8>()?)));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            writeln!(file, "{}", hex::encode(random::<32>().map_err(std::io::Error::other)?))?;
            file.sync_all()?;
            match fs::hard_link(&beside, path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                other => other,
            }
        };
        let made = write();
        let _ = fs::remove_file(&beside);
        made.map_err(failed)
    }

    /// HMAC-SHA256 (RFC 2104).
    pub(crate) fn sign(&self, message: &[&[u8]]) -> [u8; 32] {
        self.over(message).finalize().into_bytes().into()
    }

    /// Whether a signature was made with this key; takes the same time whatever is wrong with the signature.
    pub(crate) fn verify(&self, message: &[&[u8]], signature: &[u8]) -> bool {
        self.over(message).verify_slice(signature).is_ok()
    }

    fn over(&self, message: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in message {
            mac.update(part);
        }
        mac
    }
}

/// Random bytes from the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], AccessError> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| AccessError::Random(e.into()))?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let make = || Key::open(folder.path()).unwrap().sign(&[b"same"]);
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "eight at once made one");
        let path = path_in(folder.path());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_cut_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Key::open(folder.path()).unwrap();
        let path = path_in(folder.path());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let said = Key::open(folder.path()).map(|_| ()).unwrap_err().to_string();
        assert!(said.contains("its group may read it") && said.contains("chmod g-r"), "{said}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "00ff\n").unwrap();
        assert!(matches!(Key::open(folder.path()), Err(AccessError::Key { .. })));
    }

    #[test]
    fn signatures_are_what_others_compute() {
        let key = Key::of([0x0b; 32]);
        let (said, other) = (key.sign(&[b"Hi ", b"There"]), key.sign(&[b"Hi There"]));
        assert_eq!(said, other);
        assert_eq!(hex::encode(said), "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7");
        assert!(key.verify(&[b"Hi There"], &said));
        assert!(!key.verify(&[b"Hi there"], &said) && !key.verify(&[b"Hi There"], &said[..31]));
    }
}
