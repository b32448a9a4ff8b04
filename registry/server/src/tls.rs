//! TLS: one certificate, read again when its files change; clients may have certificates of their own.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::nid::Nid;
use openssl::x509::X509;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::access::{AccessError, Account, Watched, read};

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// They may.
    #[default]
    Optional,
    /// Who has none is not talked to.
    Required,
}

/// Where certificates are. Plain data.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// This server's certificate in PEM, and those that vouch for it after it.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// Certificates in PEM of those who vouch for clients; without, clients have none.
    pub client_ca: Option<PathBuf>,
    /// Whether clients must have one.
    pub client: ClientCertificates,
}

/// What a server needs to speak TLS 1.2 and 1.3.
pub struct Tls {
    files: Watched<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the certificates.
    pub fn open(config: TlsConfig) -> Result<Self, AccessError> {
        let paths =
            [&config.certificate, &config.key].into_iter().chain(&config.client_ca).cloned().collect();
        Ok(Self { files: Watched::open(paths, move || load(&config))? })
    }

    /// Reads files again that changed, or all of them; takes a while.
    pub(crate) fn refresh(&self, always: bool) {
        self.files.refresh(always);
    }

    /// A connection that was open before a certificate changed goes on with the old one.
    pub(crate) async fn accept<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: T,
    ) -> io::Result<TlsStream<T>> {
        let config = Arc::clone(&*self.files.get());
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Who the client's certificate is for, if it has one: an authority of ours vouched for it.
    pub(crate) fn account<T>(stream: &TlsStream<T>) -> Option<Account> {
        let certificate = stream.get_ref().1.peer_certificates()?.first()?;
        let account = named(certificate);
        if account.is_none() {
            tracing::info!("a client's certificate has no name that an account can have");
        }
        account
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn load(config: &TlsConfig) -> Result<Arc<ServerConfig>, AccessError> {
    let tls = |source| AccessError::Tls { path: config.certificate.clone(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(tls)?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                let source = |source| AccessError::Tls { path: path.clone(), source };
                roots.add(certificate).map_err(source)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match config.client {
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
                ClientCertificates::Required => verifier,
            };
            let built = verifier.build();
            builder.with_client_cert_verifier(
                built.map_err(|source| AccessError::Authority { path: path.clone(), source })?,
            )
        }
    };
    let chain = certificates(&config.certificate)?;
    let expired = chain.first().and_then(|first| X509::from_der(first).ok()).is_some_and(|first| {
        openssl::asn1::Asn1Time::days_from_now(0).is_ok_and(|now| first.not_after() < now)
    });
    if expired {
        tracing::warn!(path = ?config.certificate, "the certificate has expired; clients will refuse it");
    }
    let mut made = builder.with_single_cert(chain, key(&config.key)?).map_err(tls)?;
    made.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(made))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let all = all.map_err(|source| AccessError::Pem { path: path.to_owned(), source })?;
    if all.is_empty() {
        return Err(AccessError::Nothing { path: path.to_owned(), what: "certificate" });
    }
    Ok(all)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, AccessError> {
    use rustls::pki_types::pem::Error;
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|source| match source {
        Error::NoItemsFound => AccessError::Nothing { path: path.to_owned(), what: "private key" },
        source => AccessError::Pem { path: path.to_owned(), source },
    })
}

/// The subject's common name, or else the first of its alternative names, that an account can have.
fn named(certificate: &[u8]) -> Option<Account> {
    let certificate = X509::from_der(certificate).ok()?;
    let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    let common = common.filter_map(|entry| entry.data().to_string().ok());
    let alternative = certificate.subject_alt_names();
    let alternative = alternative.iter().flatten().filter_map(|name| name.dnsname().or_else(|| name.email()));
    common.chain(alternative.map(str::to_owned)).find_map(|name| name.parse().ok())
}
