//! Counts and hashes bytes.

use std::fs::File;
use std::io::{self, Read as _};

use hab_oci::{Algorithm, Hasher};

/// A number of bytes and their running hash.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) hasher: Hasher,
    pub(crate) size: u64,
}

impl Tally {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Self { hasher: Hasher::new(algorithm), size: 0 }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub(crate) fn of_file(file: &mut File, algorithm: Algorithm) -> io::Result<Self> {
        io::Seek::rewind(file)?;
        let mut tally = Self::new(algorithm);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(tally),
                n => tally.add(&buffer[..n]),
            }
        }
    }
}
