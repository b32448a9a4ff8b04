//! Clients' certificates: which authorities are trusted for them, and which certificates these have revoked.
//!
//! rustls checks revocation lists by its defaults: the whole chain up to the authority, each certificate by a list of
//! its issuer with a right signature. If an issuer has no list, its certificates are refused. An expired list still
//! counts: otherwise, anyone who can hold back a file could lock all clients out. A warning says that it has expired.

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

/// The largest file of revocation lists, in bytes: enough for a million certificates.
const LISTS: u64 = 64 << 20;
/// How long a verified certificate is not verified again, as long as no file changes.
const GOOD: Duration = Duration::from_secs(60);

/// The authorities that are trusted for clients, and their revocations.
pub(super) struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    revoked: HashSet<CertificateId>,
    authorities: [u8; 32],
    /// The files of revocation lists, each with the time until which its authority meant it to be used.
    lists: Vec<(PathBuf, Option<Asn1Time>)>,
    /// Whether the warning about an expired list was given.
    told: AtomicBool,
}

/// The certificates that a client showed in its handshake.
pub(crate) struct ClientChain {
    chain: Vec<CertificateDer<'static>>,
    /// The client's own certificate, if it names an account.
    pub(crate) certificate: Option<Certificate>,
    /// The files with which it was last verified, and when. Held while it is verified.
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

    /// Verifies certificates as in a handshake.
    pub(super) fn believe(&self, shown: &ClientChain) -> bool {
        let Some((own, others)) = shown.chain.split_first() else { return false };
        self.verifier.verify_client_cert(own, others, UnixTime::now()).is_ok()
    }

    /// Warns once if a revocation list has expired.
    pub(super) fn tell_expired(&self) {
        let Ok(now) = Asn1Time::days_from_now(0) else { return };
        let over = self.lists.iter().find(|(_, until)| until.as_ref().is_some_and(|until| *until < now));
        if let Some((path, _)) = over
            && !self.told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                ?path,
                "the certificate revocation list has expired: it still counts, but lacks what was revoked since; put a \
                 new one there"
            );
        }
    }
}

impl ClientChain {
    pub(super) fn new(chain: &[CertificateDer<'_>], certificate: Option<Certificate>) -> Self {
        let chain = chain.iter().map(|each| each.clone().into_owned()).collect();
        Self { chain, certificate, good: Mutex::default() }
    }

    /// Whether the certificates are valid with these files; calls `ask` if that is not known.
    pub(super) fn is_good(&self, files: &Arc<Loaded>, ask: impl FnOnce(&Loaded) -> bool) -> bool {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.as_ref().is_some_and(|(with, at)| Arc::ptr_eq(with, files) && at.elapsed() < GOOD) {
            return true;
        }
        *good = ask(files).then(|| (files.clone(), Instant::now()));
        good.is_some()
    }
}

/// Reads lists in PEM, or else one list in DER.
fn lists_in(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, AccessError> {
    let bytes = hab_trusted_file::read(path, Readers::Everybody, LISTS)?;
    // The first byte of a DER sequence.
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

/// Adds the certificates that a list revokes; returns until when the list is meant to be used.
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
