//! TLS: one certificate, read again when its files change; clients may have certificates of their own (`clients`).

mod clients;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hab_trusted_file::Readers;
use openssl::x509::X509;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::access::{AccessError, Authorities, Certificate, CertificateId, Reloading, read};
pub(crate) use clients::ClientChain;
use clients::Clients;

/// The name of HTTP/2 in ALPN (RFC 7301).
pub(crate) const HTTP2: &[u8] = b"h2";

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// A client may have one.
    #[default]
    Optional,
    /// A client without one is refused.
    Required,
}

/// The files of certificates and keys. Plain data.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// This server's certificate in PEM, followed by its intermediate certificates.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// The authorities for clients' certificates, in PEM; without any, clients have none.
    pub client_ca: Option<PathBuf>,
    /// Revocation lists of these authorities: a file has any number in PEM, or one in DER. If there is any list, every
    /// authority needs one: a certificate whose authority has no list is refused.
    pub client_crl: Vec<PathBuf>,
    /// Whether clients must have a certificate.
    pub client: ClientCertificates,
}

/// What a server needs to speak TLS 1.2 and 1.3.
pub struct Tls {
    files: Reloading<Loaded>,
}

/// The settings that were made from the files.
struct Loaded {
    config: Arc<ServerConfig>,
    /// The authorities for clients, if clients may have certificates.
    clients: Option<Clients>,
}

impl Tls {
    /// Reads the certificates.
    pub fn open(config: TlsConfig) -> Result<Self, AccessError> {
        let files = [&config.certificate, &config.key].into_iter();
        let paths = files.chain(&config.client_ca).chain(&config.client_crl).cloned().collect();
        Ok(Self { files: Reloading::open(paths, move || load(&config))? })
    }

    /// Reads changed files again, or all files if `always` is set; takes a while.
    pub(crate) fn refresh(&self, always: bool) {
        self.files.refresh(always);
        if let Some(clients) = &self.files.get().clients {
            clients.tell_expired();
        }
    }

    /// Does the handshake. A connection keeps the server's certificate that it began with, also when the file changes.
    pub(crate) async fn accept<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: T,
    ) -> io::Result<TlsStream<T>> {
        let config = Arc::clone(&self.files.get().config);
        TlsAcceptor::from(config).accept(stream).await
    }

    /// The certificates that a client showed, if any.
    pub(crate) fn shown<T>(stream: &TlsStream<T>) -> Option<ClientChain> {
        let chain = stream.get_ref().1.peer_certificates()?;
        let certificate = Certificate::of(chain.first()?);
        if certificate.is_none() {
            tracing::info!("a client's certificate has no name that an account can have");
        }
        Some(ClientChain::new(chain, certificate))
    }

    /// Whether a client's certificates are still valid: authorities may be gone or have revoked one, or one may have
    /// expired. Called for every request; verified again when a file changed, and every minute.
    pub(crate) fn believes(&self, shown: &ClientChain) -> bool {
        shown.is_good(&self.files.get(), |loaded| {
            loaded.clients.as_ref().is_some_and(|clients| clients.believe(shown))
        })
    }
}

impl Authorities for Tls {
    fn authorities(&self) -> Option<[u8; 32]> {
        self.files.get().clients.as_ref().map(Clients::authorities)
    }

    fn is_revoked(&self, id: &CertificateId) -> bool {
        self.files.get().clients.as_ref().is_some_and(|clients| clients.is_revoked(id))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn load(config: &TlsConfig) -> Result<Loaded, AccessError> {
    let tls = |source| AccessError::Tls { path: config.certificate.clone(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(tls)?;
    let clients = match &config.client_ca {
        None => None,
        Some(path) => Some(Clients::load(path, &config.client_crl, config.client, provider)?),
    };
    let builder = match &clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
    };
    let chain = certificates(&config.certificate)?;
    let expired = chain.first().and_then(|first| X509::from_der(first).ok()).is_some_and(|first| {
        openssl::asn1::Asn1Time::days_from_now(0).is_ok_and(|now| first.not_after() < now)
    });
    if expired {
        tracing::warn!(path = ?config.certificate, "the certificate has expired; clients will refuse it");
    }
    let mut made = builder.with_single_cert(chain, key(&config.key)?).map_err(tls)?;
    made.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded { config: Arc::new(made), clients })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path, Readers::Everybody)?).collect();
    let all = all.map_err(|source| AccessError::Pem { path: path.to_owned(), source })?;
    if all.is_empty() {
        return Err(AccessError::Nothing { path: path.to_owned(), what: "certificate" });
    }
    Ok(all)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, AccessError> {
    use rustls::pki_types::pem::Error;
    PrivateKeyDer::from_pem_slice(&read(path, Readers::GroupOfRoot)?).map_err(|source| match source {
        Error::NoItemsFound => AccessError::Nothing { path: path.to_owned(), what: "private key" },
        source => AccessError::Pem { path: path.to_owned(), source },
    })
}
