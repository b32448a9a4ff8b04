//! A client's certificate, as far as access control has to know it.

use std::fmt;

use openssl::asn1::Asn1Time;
use openssl::nid::Nid;
use openssl::x509::{X509, X509Ref};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::account::Account;

/// Which certificate: what a revocation list names one by, hashed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct CertificateId([u8; 32]);

impl CertificateId {
    /// Of its issuer's name in DER, and its serial number.
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

/// Who vouches for clients, as far as a token hangs on it.
pub(crate) trait Authorities: fmt::Debug + Send + Sync {
    /// The authorities that are believed about clients, hashed.
    fn authorities(&self) -> Option<[u8; 32]>;

    /// Whether a list says that a certificate is revoked.
    fn is_revoked(&self, id: &CertificateId) -> bool;
}

/// A client's certificate that an authority of ours vouched for in the handshake.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// Whom it is for.
    pub(crate) account: Account,
    pub(crate) id: CertificateId,
    /// Unix seconds; from then on it is worth nothing.
    pub(crate) until: i64,
}

impl Certificate {
    /// `None` where it names nobody that an account can be.
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
