//! Finds certificates by pinned fingerprint. A certificate is never trusted because it was found.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use hab_oci::Digest;
use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::{Cert, Fingerprint, KeyHandle, KeyID};

use crate::policy::{KeyId, Pin};
use crate::slim::{sift, slim};
use crate::{Policy, Refusal};

/// The largest keyring that is read, in bytes; Debian's whole keyring has about 30 MB.
const LIMIT: u64 = 64 << 20;

/// The certificates of the keys that a policy pins.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    found: BTreeMap<Fingerprint, Cert>,
    /// The certificates with a primary key or subkey of this id. Ids can be made to collide, so there may be several; a
    /// caller that knows the fingerprint compares it.
    by_id: HashMap<KeyID, Vec<Fingerprint>>,
}

impl Certificates {
    /// Reads the certificates that `policy` pins from files and folders of files (`.gpg`, `.pgp`, `.asc`, `.txt`), and
    /// drops all others. A place that does not exist counts as empty. Several versions of a certificate are merged, so
    /// that an export without an old self-signature or a revocation removes nothing. An error if there is none, and
    /// each pinned key needs one.
    pub fn find(policy: &Policy, places: &[PathBuf]) -> Result<Self, Refusal> {
        let this = Self::pinned(policy, places)?;
        this.some_of(policy, places)?;
        Ok(this)
    }

    /// The certificates that `policy` pins; there may be none.
    pub fn pinned(policy: &Policy, places: &[PathBuf]) -> Result<Self, Refusal> {
        Self::read(places, |f| policy.pin(&KeyId::OpenPgp(f.clone())).is_some())
    }

    /// An error if no key that `policy` pins can be used, because every one of them needs a certificate and none was
    /// found.
    pub fn some_of(&self, policy: &Policy, searched: &[PathBuf]) -> Result<(), Refusal> {
        let needs = policy.pins().iter().any(|pin| matches!(pin.id, KeyId::OpenPgp(_)));
        let knows = policy.pins().iter().any(|pin| matches!(pin.id, KeyId::Ssh(_)));
        if self.found.is_empty() && needs && !knows {
            let searched = searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
            return Err(Refusal::NoCertificates {
                policy: policy.name().to_owned(),
                searched: if searched.is_empty() { "no place at all".to_owned() } else { searched },
                find: policy.how_to_find(),
            });
        }
        Ok(())
    }

    /// The pins of `policy` whose certificates are missing here.
    pub fn missing<'p>(&self, policy: &'p Policy) -> Vec<&'p Pin> {
        let lacks = |pin: &&Pin| matches!(&pin.id, KeyId::OpenPgp(f) if !self.found.contains_key(f));
        policy.pins().iter().filter(lacks).collect()
    }

    /// The wanted certificates in a stranger's answer, as their owners made them, without other people's additions. A
    /// fingerprint is computed from the key's own bytes, so another key cannot pass for a wanted one.
    pub fn answered(bytes: &[u8], wanted: impl Fn(&Fingerprint) -> bool) -> Self {
        let mut this = Self::default();
        for cert in sift(bytes, &wanted) {
            this.take(cert);
        }
        this.index();
        this
    }

    /// These certificates as their owners made them, without other people's additions.
    #[must_use]
    pub fn slimmed(mut self) -> Self {
        let slim = self.found.values().filter_map(slim).map(|cert| (cert.fingerprint(), cert));
        self.found = slim.collect();
        self.index();
        self
    }

    /// Whether there is no certificate.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The certificates of which `others` has something that these do not.
    pub fn news(&self, others: &Self) -> Vec<Fingerprint> {
        let new = |(fingerprint, cert): &(&Fingerprint, &Cert)| match self.found.get(*fingerprint) {
            Some(known) => known.clone().merge_public((*cert).clone()).is_ok_and(|merged| merged != *known),
            None => true,
        };
        others.found.iter().filter(new).map(|(fingerprint, _)| fingerprint.clone()).collect()
    }

    /// Adds everything in `others`, and loses nothing.
    pub fn merge(&mut self, others: &Self) {
        for cert in others.found.values() {
            self.take(cert.clone());
        }
        self.index();
    }

    /// The addresses in a certificate's own user ids: its owner may publish a newer version there.
    pub fn addresses(&self, fingerprint: &Fingerprint) -> Vec<String> {
        let ids = self.found.get(fingerprint).into_iter().flat_map(Cert::userids);
        let own = ids.filter(|id| id.self_signatures().next().is_some());
        let addresses = own.filter_map(|id| id.userid().email().ok().flatten().map(str::to_owned));
        addresses.filter(|address| crate::policy::is_address(address)).collect()
    }

    /// Reads every certificate for which `wanted` is true.
    pub fn read(places: &[PathBuf], wanted: impl Fn(&Fingerprint) -> bool) -> Result<Self, Refusal> {
        let mut this = Self::default();
        for file in places.iter().flat_map(|place| files(place)) {
            let bytes = hab_file::read(&file, LIMIT).map_err(file_error)?;
            this.add(&bytes, &wanted);
        }
        this.index();
        Ok(this)
    }

    /// Reads every certificate in `bytes`, armored or binary.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut this = Self::default();
        this.add(bytes, &|_| true);
        this.index();
        this
    }

    fn add(&mut self, bytes: &[u8], wanted: &dyn Fn(&Fingerprint) -> bool) {
        let Ok(parser) = CertParser::from_bytes(bytes) else { return };
        // A broken certificate in a keyring does not hide the others.
        for cert in parser.flatten().filter(|c| wanted(&c.fingerprint())) {
            self.take(cert);
        }
    }

    fn take(&mut self, cert: Cert) {
        let cert = cert.strip_secret_key_material();
        let merged = match self.found.remove(&cert.fingerprint()) {
            Some(earlier) => earlier.clone().merge_public(cert).unwrap_or(earlier),
            None => cert,
        };
        self.found.insert(merged.fingerprint(), merged);
    }

    fn index(&mut self) {
        self.by_id.clear();
        for (fingerprint, cert) in &self.found {
            for key in cert.keys() {
                self.by_id.entry(key.key().keyid()).or_default().push(fingerprint.clone());
            }
        }
    }

    /// All certificates.
    pub fn iter(&self) -> impl Iterator<Item = &Cert> {
        self.found.values()
    }

    /// The certificate with this primary fingerprint.
    pub fn get(&self, fingerprint: &Fingerprint) -> Option<&Cert> {
        self.found.get(fingerprint)
    }

    /// A digest over all certificates.
    pub fn digest(&self) -> Result<Digest, Refusal> {
        let bytes: Vec<_> = self.exported()?.into_iter().map(|(_, bytes)| bytes).collect();
        Ok(Digest::of(&bytes.concat()))
    }

    /// Every certificate's name and bytes.
    pub(crate) fn exported(&self) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let export = |(fingerprint, cert): (&Fingerprint, &Cert)| {
            let name = format!("certificate {fingerprint:X}");
            match cert.to_vec() {
                Ok(bytes) => Ok((name, bytes)),
                Err(e) => Err(Refusal::Unreadable { what: name, detail: e.to_string() }),
            }
        };
        self.found.iter().map(export).collect()
    }

    /// The single certificate that one of `handles` names; `None` if there is none, or more than one.
    pub(crate) fn named(&self, handles: &[KeyHandle]) -> Option<&Cert> {
        let ids = handles.iter().map(KeyID::from);
        let mut named = ids.filter_map(|id| self.by_id.get(&id));
        match (named.next()?.as_slice(), named.next()) {
            ([one], None) => self.found.get(one),
            ([one], Some(other)) if other.as_slice() == [one.clone()] && named.next().is_none() => {
                self.found.get(one)
            }
            _ => None,
        }
    }

    /// The certificates that one of `handles` names, as primary key or subkey.
    pub(crate) fn named_by(&self, handles: &[KeyHandle]) -> Vec<Cert> {
        let mut named: Vec<&Fingerprint> = handles
            .iter()
            .flat_map(|handle| self.by_id.get(&KeyID::from(handle)).into_iter().flatten())
            .collect();
        named.sort();
        named.dedup();
        let certs = named.into_iter().filter_map(|f| self.found.get(f));
        certs
            .filter(|cert| cert.keys().any(|ka| handles.iter().any(|h| h.aliases(ka.key().key_handle()))))
            .cloned()
            .collect()
    }

    /// Writes every certificate into `folder`, one file each, merged with the file that is there. A certificate never
    /// loses anything: exports drop old self-signatures that old signatures need. Returns which certificates are new,
    /// and which have gained something.
    pub fn keep_in(&self, folder: &Path) -> Result<CertificateImport, Refusal> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Refusal::Io { path, source }
        };
        fs::create_dir_all(folder).map_err(io(folder))?;
        // Two processes that merge into one file must not lose each other's additions: one may be a revocation.
        let path = folder.with_extension("lock");
        let lock = File::create(&path).map_err(io(&path))?;
        lock.lock().map_err(io(&path))?;
        let mut kept = CertificateImport::default();
        for (fingerprint, cert) in &self.found {
            let path = folder.join(format!("{fingerprint:X}.pgp"));
            let there = Self::read(std::slice::from_ref(&path), |f| f == fingerprint)?;
            let old = there.get(fingerprint);
            if old.is_none() && path.exists() {
                // Overwriting the file would lose its content, which nobody could read.
                let detail =
                    "it is not a certificate; move it away, and check whether the disk is damaged".to_owned();
                return Err(Refusal::Unreadable { what: path.display().to_string(), detail });
            }
            let merged = match old {
                Some(old) => old.clone().merge_public(cert.clone()).unwrap_or_else(|_| old.clone()),
                None => cert.clone(),
            };
            if old == Some(&merged) {
                kept.unchanged.push(fingerprint.clone());
                continue;
            }
            let unwritable = |e: sequoia_openpgp::anyhow::Error| Refusal::Unreadable {
                what: format!("certificate {fingerprint:X}"),
                detail: e.to_string(),
            };
            let bytes = merged.to_vec().map_err(unwritable)?;
            hab_file::replace_with(&path, 0o600, &bytes).map_err(file_error)?;
            if old.is_some() { &mut kept.grown } else { &mut kept.new }.push(fingerprint.clone());
        }
        Ok(kept)
    }
}

fn file_error(error: hab_file::Error) -> Refusal {
    let (path, source) = error.into_io();
    Refusal::Io { path, source }
}

/// What an import changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateImport {
    /// Certificates that were not there before.
    pub new: Vec<Fingerprint>,
    /// Certificates that have gained something.
    pub grown: Vec<Fingerprint>,
    /// Certificates that have not changed.
    pub unchanged: Vec<Fingerprint>,
}

fn files(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place) else {
        return if place.is_file() { vec![place.to_owned()] } else { Vec::new() };
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|p| {
            let extension = p.extension().and_then(|e| e.to_str());
            p.is_file() && matches!(extension, Some("gpg" | "pgp" | "asc" | "txt"))
        })
        .collect();
    found.sort();
    found
}
