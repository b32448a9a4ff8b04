//! Clients' certificates: which authorities are believed about them, and what these have revoked since.
//!
//! A revocation list is checked by rustls as it does by default: the whole chain up to the authority, each certificate
//! by a list of whoever issued it, whose signature has to be right; where an issuer has no list, its certificates are
//! refused. A list whose time is over still counts, because to believe nobody any more would let whoever can hold back
//! a file shut everybody out; that it is over is told.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hab_trusted_file::Readers;
use openssl::asn1::Asn1Time;
use openssl::x509::X509Crl;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest as _, Sha256};

use super::{ClientCertificates, Loaded, certificates};
use crate::access::{AccessError, Certificate, CertificateId};

/// Bytes of a file of revocation lists: a million certificates.
const LISTS: u64 = 64 << 20;
/// For how long a certificate that was good is not looked at again while no file changes.
const GOOD: Duration = Duration::from_secs(60);

/// Who is believed about clients.
pub(super) struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    revoked: HashSet<CertificateId>,
    authorities: [u8; 32],
    /// Lists by their files, each with the time until when its authority meant it to be used.
    lists: Vec<(PathBuf, Option<Asn1Time>)>,
    /// That one of them is over was told.
    told: AtomicBool,
}

/// What a client showed in its handshake.
pub(crate) struct Shown {
    chain: Vec<CertificateDer<'static>>,
    /// What it says, if it names somebody.
    pub(crate) certificate: Option<Certificate>,
    /// With which files it was good, and when. Held for a copy only.
    good: Mutex<Option<(Arc<Loaded>, Instant)>>,
}

impl Clients {
    pub(super) fn load(
        authorities: &Path,
        lists: &[PathBuf],
        client: ClientCertificates,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, AccessError> {
        let mut roots = RootCertStore::empty();
        let mut hasher = Sha256::new();
        for certificate in certificates(authorities)? {
            hasher.update((certificate.len() as u64).to_be_bytes());
            hasher.update(&certificate);
            let source = |source| AccessError::Tls { path: authorities.to_owned(), source };
            roots.add(certificate).map_err(source)?;
        }
        let (mut all, mut revoked, mut until) = (Vec::new(), HashSet::new(), Vec::new());
        for path in lists {
            for list in lists_in(path)? {
                let failed = |source| AccessError::Revocations { path: path.clone(), source };
                until.push((path.clone(), read(&list, &mut revoked).map_err(failed)?));
                all.push(list);
            }
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).with_crls(all);
        let verifier = match client {
            ClientCertificates::Optional => verifier.allow_unauthenticated(),
            ClientCertificates::Required => verifier,
        };
        let verifier = verifier
            .build()
            .map_err(|source| AccessError::Authority { path: authorities.to_owned(), source })?;
        let clients = Self {
            verifier,
            revoked,
            authorities: hasher.finalize().into(),
            lists: until,
            told: AtomicBool::new(false),
        };
        clients.tell_expired();
        Ok(clients)
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }

    pub(super) fn authorities(&self) -> [u8; 32] {
        self.authorities
    }

    pub(super) fn is_revoked(&self, id: &CertificateId) -> bool {
        self.revoked.contains(id)
    }

    /// As in a handshake.
    pub(super) fn believe(&self, shown: &Shown) -> bool {
        let Some((own, others)) = shown.chain.split_first() else { return false };
        self.verifier.verify_client_cert(own, others, UnixTime::now()).is_ok()
    }

    /// Says once that a list should have been replaced by now.
    pub(super) fn tell_expired(&self) {
        let Ok(now) = Asn1Time::days_from_now(0) else { return };
        let over = self.lists.iter().find(|(_, until)| until.as_ref().is_some_and(|until| *until < now));
        if let Some((path, _)) = over
            && !self.told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                ?path,
                "the certificate revocation list is older than its authority wants: it still counts, but what was revoked \
                 since is not in it; put a new one there"
            );
        }
    }
}

impl Shown {
    pub(super) fn new(chain: &[CertificateDer<'_>], certificate: Option<Certificate>) -> Self {
        let chain = chain.iter().map(|each| each.clone().into_owned()).collect();
        Self { chain, certificate, good: Mutex::default() }
    }

    /// Whether it is good with these files, by `ask` where that is not known.
    pub(super) fn is_good(&self, files: &Arc<Loaded>, ask: impl FnOnce(&Loaded) -> bool) -> bool {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.as_ref().is_some_and(|(with, at)| Arc::ptr_eq(with, files) && at.elapsed() < GOOD) {
            return true;
        }
        *good = ask(files).then(|| (files.clone(), Instant::now()));
        good.is_some()
    }
}

/// PEM, or else one list in DER.
fn lists_in(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, AccessError> {
    let bytes = hab_trusted_file::read(path, Readers::Everybody, LISTS)?;
    // A DER sequence.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|source| AccessError::Pem { path: path.to_owned(), source })?;
    if all.is_empty() {
        return Err(AccessError::Nothing { path: path.to_owned(), what: "certificate revocation list" });
    }
    Ok(all)
}

/// Adds what a list revokes, and says until when it is meant to be used.
fn read(
    list: &CertificateRevocationListDer<'_>,
    revoked: &mut HashSet<CertificateId>,
) -> Result<Option<Asn1Time>, openssl::error::ErrorStack> {
    let list = X509Crl::from_der(list)?;
    let issuer = list.issuer_name().to_der()?;
    for entry in list.get_revoked().into_iter().flatten() {
        revoked.insert(CertificateId::of(&issuer, &entry.serial_number().to_bn()?.to_vec()));
    }
    let until = list.next_update().map(|until| {
        let since = Asn1Time::from_unix(0)?.diff(until)?;
        Asn1Time::from_unix(i64::from(since.days) * 24 * 60 * 60 + i64::from(since.secs))
    });
    until.transpose()
}
