//! Certificates are found by pinned fingerprint, and never trusted for being found.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::{Cert, Fingerprint, KeyHandle};

use crate::{Policy, Refusal};

/// The largest keyring that is read, in bytes; Debian's whole keyring is about 30 MB.
const LIMIT: u64 = 64 << 20;

/// The certificates of the keys that a policy pins.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    found: BTreeMap<Fingerprint, Cert>,
}

impl Certificates {
    /// Reads the certificates that `policy` pins from files and folders of files (`.gpg`, `.pgp`, `.asc`), all others
    /// are dropped. A place that does not exist has none. Several revisions of one certificate are merged.
    pub fn find(policy: &Policy, places: &[PathBuf]) -> Result<Self, Refusal> {
        let mut this = Self::default();
        for place in places {
            for file in files(place) {
                this.read(policy, &file)?;
            }
        }
        if this.found.is_empty() && !policy.keys().is_empty() {
            let searched = places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
            return Err(Refusal::NoCertificates {
                policy: policy.name().to_owned(),
                searched: if searched.is_empty() { "no place at all".to_owned() } else { searched },
            });
        }
        Ok(this)
    }

    fn read(&mut self, policy: &Policy, path: &Path) -> Result<(), Refusal> {
        let io = |source| Refusal::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(LIMIT).read_to_end(&mut bytes).map_err(io)?;
        let Ok(parser) = CertParser::from_bytes(&bytes) else { return Ok(()) };
        // A broken certificate in a keyring hides only itself.
        for cert in parser.flatten().filter(|c| policy.keys().contains_key(&c.fingerprint())) {
            let fingerprint = cert.fingerprint();
            let merged = match self.found.remove(&fingerprint) {
                Some(earlier) => earlier.clone().merge_public(cert).unwrap_or(earlier),
                None => cert.strip_secret_key_material(),
            };
            self.found.insert(fingerprint, merged);
        }
        Ok(())
    }

    /// The certificates that one of `handles` names, as primary key or subkey.
    pub(crate) fn named_by(&self, handles: &[KeyHandle]) -> Vec<Cert> {
        self.found
            .values()
            .filter(|cert| cert.keys().any(|ka| handles.iter().any(|h| h.aliases(ka.key().key_handle()))))
            .cloned()
            .collect()
    }
}

fn files(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place) else {
        return if place.is_file() { vec![place.to_owned()] } else { Vec::new() };
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|p| {
            p.is_file() && matches!(p.extension().and_then(|e| e.to_str()), Some("gpg" | "pgp" | "asc"))
        })
        .collect();
    found.sort();
    found
}
