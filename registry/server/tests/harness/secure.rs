//! Accounts, certificates, and a client that shows them.
#![allow(dead_code)] // each test program uses a part of it

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hab_registry::{AccessConfig, AccessRule, ClientCertificates, NewToken, TlsConfig};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Reply;

/// What the operator's files are in; each is written where a test says so.
pub struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        // Moved over, as who replaces a file in use should.
        let beside = self.path(&format!("{name}.new"));
        fs::write(&beside, bytes).unwrap();
        // As an operator has to: some of these are secret.
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&beside, self.path(name)).unwrap();
        self.path(name)
    }

    /// Accounts whose password is their name and "'s".
    pub fn htpasswd(&self, names: &[&str]) -> PathBuf {
        let line = |name: &&str| format!("{name}:{}\n", bcrypt::hash(format!("{name}'s"), 4).unwrap());
        self.write("htpasswd", names.iter().map(line).collect::<String>())
    }

    /// Accounts with a token each, which is returned.
    pub fn tokens(&self, names: &[&str]) -> Vec<String> {
        let made: Vec<_> = names.iter().map(|name| NewToken::make(&name.parse().unwrap()).unwrap()).collect();
        self.write("tokens", made.iter().map(|made| made.line.as_str()).collect::<Vec<_>>().join("\n"));
        made.into_iter().map(|made| made.token).collect()
    }

    /// Accounts with passwords, and rules for them: who, repositories, actions; all divided by spaces.
    pub fn access(&self, names: &[&str], rules: &[(&str, &str, &str)]) -> AccessConfig {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let rule = |(who, repositories, actions): &(&str, &str, &str)| {
            let json = serde_json::json!({
                "who": words(who), "repositories": words(repositories), "actions": words(actions),
            });
            serde_json::from_value::<AccessRule>(json).unwrap()
        };
        AccessConfig {
            htpasswd: Some(self.htpasswd(names)),
            rules: rules.iter().map(rule).collect(),
            ..AccessConfig::default()
        }
    }

    /// A certificate for this machine's loopback address, by an authority in `ca.pem`.
    pub fn tls(&self, authority: &Authority) -> TlsConfig {
        self.write("ca.pem", authority.pem());
        let (certificate, key) = authority.vouch("127.0.0.1", Some("127.0.0.1"));
        TlsConfig {
            certificate: self.write("server.pem", certificate),
            key: self.write("server.key", key),
            client_ca: None,
            client_crl: Vec::new(),
            client: ClientCertificates::Optional,
        }
    }
}

/// `Authorization: Basic`, with what [`Files::htpasswd`] made the password.
pub fn basic(name: &str) -> String {
    basic_with(name, &format!("{name}'s"))
}

pub fn basic_with(name: &str, password: &str) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("Basic {text}")
}

/// Waits until something is so, which a server may need a few seconds for.
pub fn eventually(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Who vouches for certificates.
pub struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = key();
        let certificate = certificate(name, None, &key, None, 30);
        Self { key, certificate }
    }

    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    /// A list of revoked certificates, which are in PEM, to be used until a time such as `490101000000Z`; in DER. Made by hand,
    /// because the library that reads them makes none.
    pub fn revocations(&self, revoked: &[&[u8]], until: &str) -> Vec<u8> {
        let algorithm = der(0x30, &[&[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
        let since = der(0x17, &[b"200101000000Z"]);
        let entry = |pem: &&[u8]| {
            let serial = X509::from_pem(pem).unwrap().serial_number().to_bn().unwrap().to_vec();
            der(0x30, &[&der(2, &[&[0], &serial]), &since])
        };
        let entries: Vec<Vec<u8>> = revoked.iter().map(entry).collect();
        let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        let entries = if entries.is_empty() { Vec::new() } else { der(0x30, &entries) };
        let number = der(0x30, &[&[0x06, 3, 0x55, 0x1d, 20], &der(4, &[&der(2, &[&[1]])])]);
        let extensions = der(0xa0, &[&der(0x30, &[&number])]);
        let issuer = self.certificate.subject_name().to_der().unwrap();
        let until = der(0x17, &[until.as_bytes()]);
        let list = der(0x30, &[&[2, 1, 1], &algorithm, &issuer, &since, &until, &entries, &extensions]);
        let mut signer = openssl::sign::Signer::new(MessageDigest::sha256(), &self.key).unwrap();
        signer.update(&list).unwrap();
        let signature = signer.sign_to_vec().unwrap();
        der(0x30, &[&list, &algorithm, &der(3, &[&[0], &signature])])
    }

    /// A certificate and its key, in PEM.
    pub fn vouch(&self, common: &str, address: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        self.vouch_for(common, address, 30)
    }

    /// The same, until so many days from now.
    pub fn vouch_for(&self, common: &str, address: Option<&str>, days: i64) -> (Vec<u8>, Vec<u8>) {
        let key = key();
        let certificate = certificate(common, address, &key, Some(self), days);
        (certificate.to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap())
    }
}

/// One value in DER, made of others.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = match u32::try_from(body.len()).unwrap() {
        short @ 0..0x80 => vec![u8::try_from(short).unwrap()],
        long => [&[0x84], long.to_be_bytes().as_slice()].concat(),
    };
    // The shortest form of a length is the only one.
    let length = match length.as_slice() {
        [0x84, 0, 0, 0, one] => vec![0x81, *one],
        [0x84, 0, 0, rest @ ..] => [&[0x82], rest].concat(),
        _ => length,
    };
    // A positive number has a zero before it only where it would be a negative one without.
    let body = match (tag, body.as_slice()) {
        (2, [0, next, ..]) if *next < 0x80 => body[1..].to_vec(),
        _ => body,
    };
    let length = if tag == 2 { vec![u8::try_from(body.len()).unwrap()] } else { length };
    [&[tag], length.as_slice(), &body].concat()
}

/// What is in DER, in PEM.
pub fn pem(kind: &str, der: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n")).into_bytes()
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn certificate(
    common: &str,
    address: Option<&str>,
    key: &PKey<Private>,
    by: Option<&Authority>,
    days: i64,
) -> X509 {
    const DAY: i64 = 24 * 60 * 60;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let from_now = |days: i64| Asn1Time::from_unix(i64::try_from(now).unwrap() + days * DAY).unwrap();
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, common).unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(120, openssl::bn::MsbOption::MAYBE_ZERO, false).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(by.map_or(&name, |by| by.certificate.subject_name())).unwrap();
    builder.set_not_before(&from_now(days.min(1) - 1)).unwrap();
    builder.set_not_after(&from_now(days)).unwrap();
    builder.set_pubkey(key).unwrap();
    if by.is_none() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.append_extension(KeyUsage::new().key_cert_sign().crl_sign().build().unwrap()).unwrap();
    }
    if let Some(address) = address {
        let names = {
            let context = builder.x509v3_context(by.map(|by| &*by.certificate), None);
            SubjectAlternativeName::new().ip(address).dns("localhost").build(&context).unwrap()
        };
        builder.append_extension(names).unwrap();
    }
    builder.sign(by.map_or(key, |by| &by.key), MessageDigest::sha256()).unwrap();
    builder.build()
}

/// A client over TLS that believes one authority.
pub struct Client(Arc<ClientConfig>);

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Client {
    /// With a certificate and key of its own, or without.
    pub fn new(authority: &[u8], own: Option<(Vec<u8>, Vec<u8>)>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(&certificate).unwrap()],
                    PrivateKeyDer::from_pem_slice(&key).unwrap(),
                )
                .unwrap(),
        };
        Self(Arc::new(config))
    }

    /// The same client, which can speak these protocols.
    pub fn offering(mut self, protocols: &[&str]) -> Self {
        let config = Arc::make_mut(&mut self.0);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    pub fn connect(&self, address: SocketAddr) -> Stream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let name = ServerName::from(address.ip());
        StreamOwned::new(ClientConnection::new(self.0.clone(), name).unwrap(), stream)
    }

    /// The answer, or `None` where there is none: no handshake.
    pub fn get(&self, address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Option<Reply> {
        let mut stream = self.connect(address);
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        Reply::read(&mut stream)
    }

    /// The server's own certificate.
    pub fn certificate_of(&self, address: SocketAddr) -> Vec<u8> {
        let mut stream = self.connect(address);
        let _ = stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
        stream.conn.peer_certificates().map_or(Vec::new(), |all| all[0].to_vec())
    }
}

/// What a PEM file's certificate is, as [`Client::certificate_of`] says it.
pub fn der_of(path: &Path) -> Vec<u8> {
    X509::from_pem(&fs::read(path).unwrap()).unwrap().to_der().unwrap()
}
