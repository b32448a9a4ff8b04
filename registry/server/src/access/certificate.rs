//! The parts of a client's certificate that access control needs.

use std::fmt;

use openssl::asn1::Asn1Time;
use openssl::nid::Nid;
use openssl::x509::{X509, X509Ref};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::account::Account;

/// Identifies a certificate: the hash of its issuer and serial number, by which a revocation list names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct CertificateId([u8; 32]);

impl CertificateId {
    /// Hashes the issuer's name in DER, and the serial number.
    pub(crate) fn of(issuer: &[u8], serial: &[u8]) -> Self {
        let length = (issuer.len() as u64).to_be_bytes();
        Self(Sha256::new().chain_update(length).chain_update(issuer).chain_update(serial).finalize().into())
    }
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl TryFrom<String> for CertificateId {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id).map(|()| Self(id))
    }
}

impl From<CertificateId> for String {
    fn from(id: CertificateId) -> Self {
        hex::encode(id.0)
    }
}

/// The certificate authorities for clients, as far as tokens depend on them.
pub(crate) trait Authorities: fmt::Debug + Send + Sync {
    /// The hash of the authorities that are trusted for clients.
    fn authorities(&self) -> Option<[u8; 32]>;

    /// Whether a revocation list names a certificate.
    fn is_revoked(&self, id: &CertificateId) -> bool;
}

/// A client's certificate that was verified in the handshake.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// The account that it names.
    pub(crate) account: Account,
    pub(crate) id: CertificateId,
    /// Unix seconds; the certificate is invalid from then on.
    pub(crate) until: i64,
}

impl Certificate {
    /// Reads a certificate; `None` if it has no name that an account can have.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        let certificate = X509::from_der(der).ok()?;
        let issuer = certificate.issuer_name().to_der().ok()?;
        let serial = certificate.serial_number().to_bn().ok()?.to_vec();
        let since = Asn1Time::from_unix(0).ok()?.diff(certificate.not_after()).ok()?;
        Some(Self {
            account: named(&certificate)?,
            id: CertificateId::of(&issuer, &serial),
            until: i64::from(since.days) * 24 * 60 * 60 + i64::from(since.secs),
        })
    }
}

/// The subject's common name, or else the first of its alternative names, that an account can have.
fn named(certificate: &X509Ref) -> Option<Account> {
    let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    let common = common.filter_map(|entry| entry.data().to_string().ok());
    let alternative = certificate.subject_alt_names();
    let alternative = alternative.iter().flatten().filter_map(|name| name.dnsname().or_else(|| name.email()));
    common.chain(alternative.map(str::to_owned)).find_map(|name| name.parse().ok())
}
